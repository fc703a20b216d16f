"""Number ranges: write integers as ranges such as 3,8-10, for lists of features that are parsed
again and for layers in sentences."""

from collections.abc import Iterable
from itertools import pairwise


def find_ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return the ranges of consecutive integers in `numbers` as (first, last), in ascending
    order."""
    ordered = sorted(set(numbers))
    if not ordered:
        return []
    ends = [i for i, (one, other) in enumerate(pairwise(ordered)) if other != one + 1]
    starts = [0, *(i + 1 for i in ends)]
    return [(ordered[a], ordered[b]) for a, b in zip(starts, [*ends, -1], strict=True)]


def join_ranges(numbers: Iterable[int]) -> str:
    """Return integers as a text of ranges, "3,8-10": the shortest one from which the same numbers
    can be parsed."""
    return ",".join(
        str(low) if low == high else f"{low}-{high}" for low, high in find_ranges(numbers)
    )


def describe_layers(layers: Iterable[int]) -> str:
    """Return layers as ranges for a sentence: "layer 3", "layers 3 and 4" or "layers 0–9, 12 and
    14–29"."""
    parts: list[str] = []
    for low, high in find_ranges(layers):
        if high - low < 2:
            parts += [str(one) for one in range(low, high + 1)]
        else:
            parts.append(f"{low}–{high}")
    if not parts:
        return "no layer"
    if parts[0].isdecimal() and len(parts) == 1:
        return f"layer {parts[0]}"
    *first, last = parts
    return f"layers {', '.join(first)} and {last}" if first else f"layers {last}"
