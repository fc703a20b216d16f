"""Hashes that stand in for dice: the same on every machine, in any order, in any batch."""

import torch
from jaxtyping import Int
from torch import Tensor

HASH_RANGE = 1 << 31
"""Hashes lie in [0, UNIT)."""


def _as_int32(constant: int) -> int:
    return constant - (1 << 32) if constant >= 1 << 31 else constant


def mix_int32(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Scramble int32s: a bijection on 32 bits in which every input bit moves every output bit.

    Two multiplications and three shifts, constants from the search for low-bias 32-bit mixers;
    int32 arithmetic wraps, and the masks turn arithmetic shifts into logical ones.
    """
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * _as_int32(0x7FEB352D)
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * _as_int32(0x846CA68B)
    return x ^ ((x >> 16) & 0xFFFF)


def hash_ids(ids: Int[Tensor, "n"], seed: int) -> Int[Tensor, "n"]:
    """A full 32-bit hash of each id under a seed, as int32."""
    start = int(mix_int32(torch.tensor([(seed * 2 + 1) & 0x7FFFFFFF], dtype=torch.int32)))
    return mix_int32(ids.to(torch.int32) ^ start)


def sampling_priority(hashed: Int[Tensor, "n"], slot: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """For each (window, slot) a number in [0, UNIT): the larger, the sooner it is kept.

    `hashed` are windows' hashes by `seeded`.
    """
    return mix_int32(hashed ^ (slot.to(torch.int32) * _as_int32(0x9E3779B1))) & 0x7FFFFFFF


def select_by_hash(ids: Int[Tensor, "n"], seed: int, rate: float) -> Tensor:
    """Which ids belong to a sample of the stated rate: bool [n]."""
    last = int(rate * HASH_RANGE) - 1  # UNIT itself is no int32: a rate of 1 would take none
    return (hash_ids(ids, seed) & 0x7FFFFFFF) <= last
