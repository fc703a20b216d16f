"""Confidence interval of a φ coefficient that was estimated from a sample of a harvest's tokens."""

import math


def phi_margin(phi: float, density: float, other: float, n: int, rate: float) -> float | None:
    """Return half the width of the 95 % confidence interval of a φ estimated from `n` sampled
    tokens.

    `density` and `other` are the shares of tokens on which the two features fire, `rate` is the
    share of the harvest's tokens in the sample (1: all tokens, so the margin is 0). The variance is
    the large-sample variance of φ (Bishop, Fienberg & Holland 1975, p. 381) for n tokens drawn
    without replacement. None where it is undefined.
    """
    if rate >= 1:
        return 0.0
    if n <= 0 or not (0 < density < 1 and 0 < other < 1):
        return None
    first, second = density * (1 - density), other * (1 - other)
    skew, other_skew = 2 * density - 1, 2 * other - 1
    variance = (
        1
        - phi**2
        + (phi + phi**3 / 2) * skew * other_skew / math.sqrt(first * second)
        - 0.75 * phi**2 * (skew**2 / first + other_skew**2 / second)
    )
    return 1.96 * math.sqrt(max(variance, 0.0) / n * (1 - rate))
