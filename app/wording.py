"""Numbers as a person reads them: thin separators, a unit, no more digits than they deserve."""

import math

LONGEST, SHORTEST = 1e9, 1e-6
"""Sizes outside of which numbers are written in scientific form."""
SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
THIN = "\u202f"
"""Narrow no-break space: between thousands, and between a number and its unit."""
ABSENT = "–"


def count(n: int) -> str:
    """12340 → `12 340`."""
    return f"{n:,}".replace(",", THIN)


def measure(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits: written out, or where that would be long
    in scientific form (`−3.2 × 10⁷⁴`); a dash for none."""
    if value is None or math.isnan(value):
        return ABSENT
    if value == 0 or math.isinf(value):
        return f"{value:g}".replace("-", "−")
    if not SHORTEST <= abs(value) < LONGEST:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        power = str(int(exponent)).translate(SUPERSCRIPTS)
        return f"{mantissa}{THIN}×{THIN}10{power}".replace("-", "−")
    rounded = float(f"{value:.{digits}g}")  # 9.999 has the digits of 10.0
    decimals = max(digits - 1 - math.floor(math.log10(abs(rounded))), 0)
    return f"{value:,.{min(decimals, 8)}f}".replace(",", THIN).replace("-", "−")


def share(value: float | None) -> str:
    """0.0021 → `0.21 %`: two significant digits; a dash for none."""
    return ABSENT if value is None else f"{measure(100 * value, 2)}{THIN}%"


def signed(value: float, digits: int = 2) -> str:
    """A number that always shows its sign."""
    return ("+" if value > 0 else "") + measure(value, digits)


def plural(n: int, noun: str) -> str:
    """`1 document`, `12 documents`."""
    ending = noun if n == 1 else f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{count(n)} {ending}"


def duration(seconds: float) -> str:
    """Return a time as `40 s`, `12 min`, `3.5 h` or `4 days`."""
    if seconds < 90:
        return f"{max(1, round(seconds))}{THIN}s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)}{THIN}min"
    hours = seconds / 3600
    return f"{measure(hours, 2)}{THIN}h" if hours < 72 else f"{round(hours / 24)} days"
