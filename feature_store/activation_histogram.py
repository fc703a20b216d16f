"""Log-spaced bins read off a float's own bits: four to the octave.

A positive float32 shifted right by 21 bits leaves its exponent and the first two bits of its
mantissa: bins whose lower edges are 2^e × {1, 1.25, 1.5, 1.75}. No logarithm, no rounding trouble.
"""

import struct
from collections.abc import Sequence

BIN_SHIFT = 21
"""Bits of a float32 that a bin's number leaves out."""
BINS_PER_OCTAVE = 4


def bin_number(value: float) -> int:
    """The bin that holds |value|, a non-zero float32."""
    (bits,) = struct.unpack("<I", struct.pack("<f", abs(value)))
    return bits >> BIN_SHIFT


def bin_edge(number: int) -> float:
    """Lower edge of a bin, in activation units; bin `number` is [edge(n), edge(n + 1))."""
    return struct.unpack("<f", struct.pack("<I", number << BIN_SHIFT))[0]


def share_below(counts: Sequence[int], start: int, value: float) -> float:
    """Estimated share of the counted values below `value`, linear inside its bin."""
    total = sum(counts)
    if not total:
        raise ValueError("an empty histogram has no shares")
    number = bin_number(value) - start
    if number < 0:
        return 0.0
    if number >= len(counts):
        return 1.0
    low, high = bin_edge(start + number), bin_edge(start + number + 1)
    return (sum(counts[:number]) + counts[number] * (abs(value) - low) / (high - low)) / total
