"""Numbers in text of bounded length, however large or small they are. Plain characters; the pages'
own typography is in `app/wording.py`."""

import math

LARGEST_FIXED = 1e6
"""From here on numbers are written in scientific form."""


def format_fixed(value: float, decimals: int = 2, *, signed: bool = False) -> str:
    """Write a number with so many decimals, in scientific form from a million on: at most
    `decimals` + 9 characters. Infinity and NaN are `inf` and `nan`; there is no `-0`."""
    sign = "+" if signed else ""
    if math.isfinite(value) and abs(value) >= LARGEST_FIXED:
        return f"{value:{sign}.1e}"
    rounded = round(value, decimals) + 0.0
    return f"{rounded:{sign if rounded else ''}.{decimals}f}"
