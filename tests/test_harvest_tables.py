"""Which contexts are kept: against plain Python, and as a random sample by chi-square."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.harvest import context_reservoir
from backend.harvest.context_reservoir import (
    ContextCandidates,
    ContextReservoir,
    keep_by_octave,
    keep_strongest,
    rank_within_groups,
)
from backend.harvest.context_table import allocate_samples
from backend.harvest.sampling_hashes import hash_ids, sampling_priority

DOCUMENT = np.arange(40, dtype=np.int32) // 3
Row = tuple[int, int, float]
"""group, window, value."""


@st.composite
def candidates(draw: st.DrawFn) -> list[Row]:
    """Rows in any order, no (group, window) twice, values with many ties."""
    values = st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 7.0])
    rows = st.tuples(st.integers(0, 3), st.integers(0, len(DOCUMENT) - 1), values)
    return draw(st.lists(rows, max_size=80, unique_by=lambda row: row[:2]))


def columns(rows: list[Row]) -> ContextCandidates:
    group, window, value = zip(*rows, strict=True) if rows else ((), (), ())
    return ContextCandidates(
        np.array(group, np.int32),
        np.array(window, np.int32),
        np.array(value, np.float32),
        np.arange(len(rows)),
    )


def as_rows(found: ContextCandidates) -> list[Row]:
    return list(zip(found.group.tolist(), found.window.tolist(), found.value.tolist(), strict=True))


def top_reference(rows: list[Row], k: int) -> list[Row]:
    """The k strongest of a group, one per document, the earlier window first among equals."""
    kept = []
    for group in range(4):
        seen: set[int] = set()
        for row in sorted((r for r in rows if r[0] == group), key=lambda r: (-r[2], r[1])):
            if DOCUMENT[row[1]] not in seen and len(seen) < k:
                seen.add(int(DOCUMENT[row[1]]))
                kept.append(row)
    return kept


def dice(rows: ContextCandidates) -> np.ndarray:
    hashed = hash_ids(torch.from_numpy(rows.window), 5)
    return sampling_priority(hashed, torch.from_numpy(rows.group >> 1)).numpy()


def octave(value: np.ndarray) -> np.ndarray:
    return (np.frexp(value)[1] + 3).astype(np.int32)


def spread_reference(rows: list[Row], uniform: int, per_octave: int) -> set[Row]:
    """The rows of highest priority of each group, and of each octave of it."""
    u = dict(zip(rows, dice(columns(rows)).tolist(), strict=True))
    kept = set()
    for limit, key in [(uniform, lambda r: r[0]), (per_octave, lambda r: (r[0], np.frexp(r[2])))]:
        parts = defaultdict(list)
        for row in sorted(rows, key=lambda r: (-u[r], r[1])):
            part = key(row)
            parts[part if isinstance(part, int) else (part[0], int(part[1][1]))].append(row)
        kept |= {row for part in parts.values() for row in part[:limit]}
    return kept


@given(candidates(), st.integers(1, 4))
def test_top_keeps_the_strongest_of_each_document(rows: list[Row], k: int) -> None:
    found = columns(rows)
    assert as_rows(found.take(keep_strongest(k, DOCUMENT)(found))) == top_reference(rows, k)


@given(candidates(), st.integers(1, 5), st.integers(0, 3))
def test_spread_keeps_the_luckiest_of_each_group_and_octave(
    rows: list[Row], uniform: int, per_octave: int
) -> None:
    found = columns(rows)
    kept = found.take(keep_by_octave(uniform, per_octave, dice, octave, 8)(found))
    assert set(as_rows(kept)) == spread_reference(rows, uniform, per_octave)
    u = dice(kept).tolist()
    assert as_rows(kept) == [
        r
        for _, _, r in sorted((r[0], (-p, r[1]), r) for p, r in zip(u, as_rows(kept), strict=True))
    ]


@settings(deadline=None)
@given(candidates(), st.integers(1, 9), st.integers(1, 30), st.sampled_from(["top", "spread"]))
def test_a_table_keeps_the_same_rows_however_they_come(
    rows: list[Row], buffer: int, block: int, kind: str
) -> None:
    keep = keep_strongest(3, DOCUMENT) if kind == "top" else keep_by_octave(4, 1, dice, octave, 8)
    whole, table = columns(rows), ContextReservoir(keep)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context_reservoir, "MIN_BUFFER_ROWS", buffer)
        patch.setattr(context_reservoir, "MERGE_BLOCK_ROWS", block)
        for begin in range(0, len(rows), 7):
            table.add(whole.take(slice(begin, begin + 7)))
        table.merge()
    want = whole.take(keep(whole))
    assert as_rows(table.rows) == as_rows(want)
    assert table.rows.offset.tolist() == want.offset.tolist()


@given(st.lists(st.integers(0, 3)))
def test_ranks_count_within_stretches(group: list[int]) -> None:
    ranks = [sum(1 for _ in run) for run in stretches(sorted(group))]
    want = [i for n in ranks for i in range(n)]
    assert rank_within_groups(np.array(sorted(group), np.int32)).tolist() == want


def stretches(values: list[int]) -> list[list[int]]:
    return [[v for v in values if v == one] for one in sorted(set(values))]


WINDOWS, SEEDS, UNIFORM, PER_OCTAVE, N = 60, 1500, 8, 2, 8


def sample(seed: int, slots: int = 1) -> ContextCandidates:
    """The range rows of `slots` like features under one seed: 60 windows in octaves 0, 1, 2."""
    window = np.tile(np.arange(WINDOWS, dtype=np.int32), slots)
    slot = np.repeat(np.arange(slots, dtype=np.int32), WINDOWS)
    value = np.float32(1.3) * np.float32(2) ** octave_of_window(window)
    rows = ContextCandidates(
        slot * 2, window, value.astype(np.float32), np.zeros(len(window), np.int64)
    )

    def lucky(part: ContextCandidates) -> np.ndarray:
        hashed = hash_ids(torch.from_numpy(part.window), seed)
        return sampling_priority(hashed, torch.from_numpy(part.group >> 1)).numpy()

    return rows.take(keep_by_octave(UNIFORM, PER_OCTAVE, lucky, octave, 8)(rows))


def octave_of_window(window: np.ndarray) -> np.ndarray:
    """Forty windows in the lowest octave, sixteen in the next, four in the highest."""
    return np.searchsorted([40, 56], window, side="right")


def chi_square(counts: np.ndarray) -> float:
    """Standardised: how many standard deviations above its mean the statistic against uniform is,
    for samples without replacement from each octave."""
    scores = []
    for number in range(3):
        mine = counts[octave_of_window(np.arange(WINDOWS)) == number]
        rate = mine.mean() / SEEDS
        scores.append(((mine - mine.mean()) ** 2).sum() / (SEEDS * rate * (1 - rate)))
    free = WINDOWS - 3
    return (sum(scores) - free) / (2 * free) ** 0.5


@pytest.mark.parametrize("across", ["seeds", "features"])
def test_inside_an_octave_every_window_is_as_likely(across: str) -> None:
    """Over seeds, and over the features of one harvest."""
    if across == "seeds":
        drawn = np.concatenate([sample(seed).window for seed in range(SEEDS)])
    else:
        drawn = sample(0, slots=SEEDS).window
    counts = np.bincount(drawn, minlength=WINDOWS)
    assert abs(chi_square(counts)) < 4
    assert counts[56:].min() > 0.45 * SEEDS  # two of the four strongest always


def test_weights_make_counts_that_are_right_on_average() -> None:
    """An estimate of the windows in the upper half of the lowest octave, over many features."""
    have = np.array([[8, 4, 2]])
    population = np.array([[40, 16, 4]])
    take = allocate_samples(have, population, N)[0]
    assert take.sum() == N and (take >= 1).all() and (take <= have).all()
    rows = sample(0, slots=SEEDS)
    level, u = octave_of_window(rows.window), np.arange(len(rows.window))
    cell = (rows.group >> 1) * 3 + level
    order = np.lexsort((u, cell))  # rows stand by priority
    rank = np.empty(len(order), int)
    rank[order] = rank_within_groups(cell[order])
    kept = (level == 0) & (rank < take[0])
    n = np.minimum(take[0], np.bincount(cell[level == 0], minlength=3 * SEEDS))
    weight = 40 / np.maximum(n, 1)
    estimate = weight[cell[kept & (rows.window < 20)]].sum() / SEEDS
    assert estimate == pytest.approx(20, abs=4 * 20 / (SEEDS * take[0]) ** 0.5)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 50)), min_size=4, max_size=4),
    st.integers(1, 12),
)
def test_places_are_shared_out_to_every_octave_and_all_used(
    cells: list[tuple[int, int]], n: int
) -> None:
    have = np.array([[h for h, _ in cells]])
    population = np.array([[h + more if h else 0 for h, more in cells]])
    take = allocate_samples(have, population, n)[0]
    assert (take <= have[0]).all() and take.sum() == min(n, have.sum())
    fired = np.flatnonzero(have[0])
    assert (take[fired[-n:]] >= 1).all()  # the strongest first, where there are few places
