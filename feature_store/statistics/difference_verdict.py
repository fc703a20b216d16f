"""Verdict on the difference between the scores of a feature's own label and of a label borrowed
from another feature.

“No difference” is a finding only where the interval of the difference is narrow enough to exclude
every difference that matters (equivalence, as in Schuirmann's two one-sided tests); a wide interval
around 0 means that too few questions were asked, and the verdict states how large a difference
could have been detected.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from feature_store.statistics.estimate import TAIL, Estimate
from feature_store.statistics.feature_means import mean_over_features
from feature_store.statistics.token_correlations import is_constant

EQUIVALENCE_MARGIN = 0.05
"""A difference (own − borrowed label) within ± this margin counts as no difference."""
DETECTION_POWER = 0.8
"""Probability with which a difference of the stated size would have had an interval above 0."""
VerdictFinding = Literal["above", "below", "at chance", "too few"]


@dataclass(frozen=True)
class DifferenceVerdict:
    """Verdict of a score job: whether features' own labels score above labels borrowed from other
    features."""

    finding: VerdictFinding
    sentence: str
    """The verdict in words, with its figures."""
    detectable: float | None
    """Difference that would have been detected in a share DETECTION_POWER of jobs like this one;
    None where too few features have both scores."""

    def to_json(self) -> dict[str, Any]:
        """Return the verdict on a difference as plain data."""
        return asdict(self)


def judge_difference(differences: np.ndarray, bounds: tuple[float, float]) -> DifferenceVerdict:
    """Return the verdict on whether features' own labels score above borrowed ones, given the
    difference own − borrowed of each feature [features].

    Features without a difference are NaN. `bounds` are the smallest and largest possible
    difference.
    """
    kept = np.asarray(differences, float)
    kept = kept[np.isfinite(kept)]
    found = mean_over_features(kept, bounds)
    seen = detectable_difference(kept, found)
    if found.value is None or found.low is None or found.high is None:
        return DifferenceVerdict("too few", too_few_sentence(found, seen), seen)
    interval = (
        f"{format_signed(found.value)} [{format_signed(found.low)}, {format_signed(found.high)}]"
    )
    if found.low >= -EQUIVALENCE_MARGIN and found.high <= EQUIVALENCE_MARGIN:
        return DifferenceVerdict(
            "at chance",
            f"At chance: the difference between own and borrowed labels, {interval}, lies within "
            f"±{EQUIVALENCE_MARGIN}.",
            seen,
        )
    if found.low > 0:
        return DifferenceVerdict(
            "above", f"Own labels score above borrowed ones: {interval}.", seen
        )
    if found.high < 0:
        return DifferenceVerdict(
            "below", f"Own labels score below borrowed ones: {interval}.", seen
        )
    return DifferenceVerdict("too few", too_few_sentence(found, seen), seen)


def detectable_difference(kept: np.ndarray, found: Estimate) -> float | None:
    """Return how large the true difference own − borrowed label must be for a share DETECTION_POWER
    of the intervals to lie above 0.

    It is (t + z) standard errors, where t is the quantile of the interval and z that of
    DETECTION_POWER. Where all differences are equal, half the interval's width is returned, or None
    without an interval.
    """
    from scipy.special import ndtri, stdtrit  # scipy.stats' norm.ppf and t.ppf are these

    n = len(kept)
    if n < 2 or is_constant(kept):
        half = None
        if found.low is not None and found.high is not None:
            half = (found.high - found.low) / 2
        return half
    error = float(kept.std(ddof=1)) / np.sqrt(n)
    return float((stdtrit(n - 1, 1 - TAIL) + ndtri(DETECTION_POWER)) * error)


def too_few_sentence(found: Estimate, seen: float | None) -> str:
    """Return the sentence of a verdict without a finding: which difference could have been
    detected."""
    if seen is None:
        return f"Too few judgements to tell (features with both scores: {found.n})."
    few = f" (features with both scores: {found.n})" if found.value is None else ""
    return f"Too few judgements{few}: a difference of {seen:.2f} could have been seen."


def format_signed(value: float) -> str:
    """Return the difference of a verdict with two decimals and its sign."""
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")
