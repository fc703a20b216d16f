"""Number format: write numbers as text of bounded length, however large or small they are, in
plain characters."""

import math

LARGEST_FIXED = 1e6
"""Absolute value from which numbers are written in scientific format."""


def format_fixed(value: float, decimals: int = 2, *, signed: bool = False) -> str:
    """Format a number with a fixed number of decimals, or in scientific format from a million on.

    The text has at most `decimals` + 9 characters. Infinity and NaN are `inf` and `nan`; there is
    no `-0`.
    """
    sign = "+" if signed else ""
    if math.isfinite(value) and abs(value) >= LARGEST_FIXED:
        return f"{value:{sign}.1e}"
    rounded = round(value, decimals) + 0.0
    return f"{rounded:{sign if rounded else ''}.{decimals}f}"
