"""Sampling hashes: deterministic integer hashes that replace random numbers in the harvest's
samples. They are the same on every machine, in any order and in any batch."""

import torch
from jaxtyping import Int
from torch import Tensor

HASH_RANGE = 1 << 31
"""Upper bound of the sampling hashes, which lie in [0, HASH_RANGE)."""


def _as_int32(constant: int) -> int:
    """Return an unsigned 32-bit constant as the int32 with the same bits."""
    return constant - (1 << 32) if constant >= 1 << 31 else constant


def mix_int32(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Hash int32 numbers by a bijection on 32 bits in which every input bit affects every output
    bit.

    It uses two multiplications and three shifts with the constants of the lowbias32 hash; int32
    arithmetic wraps, and the masks turn arithmetic shifts into logical ones.
    """
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * _as_int32(0x7FEB352D)
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * _as_int32(0x846CA68B)
    return x ^ ((x >> 16) & 0xFFFF)


def hash_ids(ids: Int[Tensor, "n"], seed: int) -> Int[Tensor, "n"]:
    """Return a 32-bit hash of each id (token or window) under a seed, as int32, for sampling by
    hash."""
    start = int(mix_int32(torch.tensor([(seed * 2 + 1) & 0x7FFFFFFF], dtype=torch.int32)))
    return mix_int32(ids.to(torch.int32) ^ start)


def sampling_priority(hashed: Int[Tensor, "n"], slot: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Return the sampling priority of each (window, slot) pair in [0, HASH_RANGE): the larger, the
    sooner the window is kept as a range context. `hashed` holds window hashes made by `hash_ids`.
    """
    return mix_int32(hashed ^ (slot.to(torch.int32) * _as_int32(0x9E3779B1))) & 0x7FFFFFFF


def select_by_hash(ids: Int[Tensor, "n"], seed: int, rate: float) -> Tensor:
    """Return which tokens or windows (`ids`) belong to a random sample of the given rate, decided
    by a hash of each under the seed: bool [n]."""
    last = (
        int(rate * HASH_RANGE) - 1
    )  # HASH_RANGE itself overflows int32: a rate of 1 would select nothing
    return (hash_ids(ids, seed) & 0x7FFFFFFF) <= last
