"""Segments: reductions over stretches of equal keys in sorted arrays (starts, ends, maxima, sums,
index ranges), on CPU or GPU.

On the CPU numpy does several of them faster than torch on the same memory; a test compares both.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def select_rows(values: Tensor, index: Int[Tensor, "n"]) -> Tensor:
    """Return the rows of a tensor at `index`, by `index_select`, which is eight times as fast as
    plain indexing on the CPU."""
    return values.index_select(0, index)


def true_indices(mask: Bool[Tensor, "n"]) -> Int[Tensor, "m"]:
    """Return the indices at which a boolean tensor is true, int64."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)


def segment_starts(*keys: Tensor) -> Int[Tensor, "segment"]:
    """Return the index at which each segment (stretch of equal keys) of sorted key tensors begins;
    where several keys are given, all must be equal within a segment."""
    new = torch.ones(len(keys[0]), dtype=torch.bool, device=keys[0].device)
    if len(new):
        differ = keys[0][1:] != keys[0][:-1]
        for key in keys[1:]:
            differ |= key[1:] != key[:-1]
        new[1:] = differ
    return true_indices(new)


def segment_ends(start: Int[Tensor, "segment"], n: int) -> Int[Tensor, "segment"]:
    """Return one past the last index of each segment, from the segments' starts and the total
    number `n` of values."""
    return torch.cat([start[1:], start.new_full((min(1, len(start)),), n)])


def segment_max(values: Float[Tensor, "n"], start: Int[Tensor, "s"]) -> Float[Tensor, "s"]:
    """Return the maximum of the values in each segment, which begins at `start` and ends where the
    next segment begins."""
    if not len(start):
        return values[:0]
    if values.device.type == "cpu":
        return torch.from_numpy(np.maximum.reduceat(values.numpy(), start.numpy()))
    return reduce_on_device(values, start, "max")


def segment_sum(values: Tensor, start: Int[Tensor, "s"]) -> Tensor:
    """Return the sum of the values in each segment, in the values' own data type."""
    if not len(start):
        return values[:0]
    if values.device.type == "cpu":
        return torch.from_numpy(np.add.reduceat(values.numpy(), start.numpy()))
    owner = torch.zeros(len(values), dtype=torch.int64, device=values.device)
    owner[start[1:]] = 1
    total = values.new_zeros(len(start))
    return total.index_add_(0, owner.cumsum(0), values)


def reduce_on_device(values: Float[Tensor, "n"], start: Int[Tensor, "s"], how: str) -> Tensor:
    """Reduce the values of each segment by `how` (such as `max`) with torch's own `segment_reduce`,
    on a GPU."""
    edges = torch.cat([start, start.new_tensor([len(values)])])
    return torch.segment_reduce(values, how, offsets=edges, unsafe=True)


def expand_segments(start: Tensor, end: Tensor) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    """Return all indices of each segment [start, end), one segment after the other, and the segment
    number of each index."""
    if start.device.type == "cpu":
        low, length = start.numpy(), (end - start).numpy()
        owner = np.repeat(np.arange(len(low)), length)
        shift = low - (np.cumsum(length) - length)
        index = np.arange(len(owner)) + np.repeat(shift, length)
        return torch.from_numpy(index), torch.from_numpy(owner)
    length = end - start
    owner = torch.repeat_interleave(torch.arange(len(start), device=start.device), length)
    shift = start - (torch.cumsum(length, 0) - length)
    return torch.arange(len(owner), device=start.device) + select_rows(shift, owner), owner
