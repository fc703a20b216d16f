"""Activation histogram: logarithmic bins, four per octave, whose numbers are the leading bits of a
float32.

A positive float32 shifted right by 21 bits leaves its exponent and the first two bits of its
mantissa: bins with the lower edges 2^e × {1, 1.25, 1.5, 1.75}, without logarithms or rounding
errors.
"""

import struct
from collections.abc import Sequence

BIN_SHIFT = 21
"""Number of low bits of a float32 that are dropped to get the number of its histogram bin."""
BINS_PER_OCTAVE = 4


def bin_number(value: float) -> int:
    """Return the number of the activation-histogram bin (four bins per octave) that holds |value|,
    for a non-zero float32 activation."""
    (bits,) = struct.unpack("<I", struct.pack("<f", abs(value)))
    return bits >> BIN_SHIFT


def bin_edge(number: int) -> float:
    """Return the lower edge of a histogram bin in activation units; bin n covers [edge(n),
    edge(n + 1))."""
    return struct.unpack("<f", struct.pack("<I", number << BIN_SHIFT))[0]


def share_below(counts: Sequence[int], start: int, value: float) -> float:
    """Estimate the share of the activations counted in a histogram that lie below `value`,
    interpolating linearly within its bin.

    `counts` are the counts of successive bins, `start` is the number of the first. Raises
    ValueError for an empty histogram.
    """
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
