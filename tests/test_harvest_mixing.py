"""Hashes that stand in for dice."""

import pytest
import torch

from backend.harvest.sampling_hashes import (
    HASH_RANGE,
    hash_ids,
    mix_int32,
    sampling_priority,
    select_by_hash,
)

IDS = torch.arange(100_000, dtype=torch.int32)


def test_a_rate_of_one_takes_all_and_of_zero_none() -> None:
    assert select_by_hash(IDS, 3, 1.0).all() and not select_by_hash(IDS, 3, 0.0).any()


@pytest.mark.parametrize("rate", [0.003, 0.25, 0.9])
def test_a_sample_has_its_rate(rate: float) -> None:
    n, taken = len(IDS), int(select_by_hash(IDS, 7, rate).sum())
    assert abs(taken - rate * n) < 5 * (n * rate * (1 - rate)) ** 0.5


def test_nothing_collides_and_seeds_differ() -> None:
    assert len(mix_int32(IDS).unique()) == len(hash_ids(IDS, 5).unique()) == len(IDS)
    assert (hash_ids(IDS, 5) == hash_ids(IDS, 6)).sum() < 5


def scrambled(x: int) -> int:
    """The mixer with Python's own integers."""
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    return x ^ x >> 16


def test_wrapping_arithmetic_equals_pythons() -> None:
    start = scrambled(5 * 2 + 1)
    want = [scrambled(number ^ start) for number in range(500)]
    assert [value % 2**32 for value in hash_ids(IDS[:500], 5).tolist()] == want


def test_priorities_of_neighbouring_slots_are_independent() -> None:
    hashed = hash_ids(IDS, 1)
    a, b = (
        sampling_priority(hashed, torch.full_like(IDS, slot)).double() / HASH_RANGE
        for slot in (0, 1)
    )
    assert 0 <= a.min() < a.max() < 1
    assert abs(a.mean() - 0.5) < 0.005
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 0.02
