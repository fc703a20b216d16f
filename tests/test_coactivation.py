"""Pairs that fire together: exact where their table fits, a fair and bounded sample elsewhere."""

from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app import session
from app.panels import neighbours
from backend.harvest import coactivation
from backend.harvest.coactivation import (
    JointCounts,
    PairSample,
    PairTable,
    initial_sample_level,
    pair_table_fits,
    token_levels,
)
from backend.harvest.feature_statistics import coactive_columns
from backend.harvest.sampling_hashes import hash_ids, select_by_hash
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from feature_store.statistics.phi_interval import phi_margin

CPU = torch.device("cpu")
CELLS = [(0.02, 0.03, 0.012), (0.3, 0.2, 0.1), (0.5, 0.5, 0.3)]
"""Densities of two features, and of both together."""
TOKENS = st.lists(st.sets(st.integers(0, 9)), max_size=25)


def entries(tokens: list[set[int]], first: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and features of a chunk whose first row is `first`."""
    mine = [(first + row, f) for row, active in enumerate(tokens) for f in sorted(active)]
    return (
        torch.tensor([r for r, _ in mine], dtype=torch.int32),
        torch.tensor([f for _, f in mine], dtype=torch.int32),
    )


def joint_of(counts: JointCounts) -> dict[tuple[int, int], int]:
    if counts.table is not None:
        assert (counts.table == counts.table.T).all() and not counts.table.diagonal().any()
        a, b = np.triu(counts.table).nonzero()
        return {(i, j): int(counts.table[i, j]) for i, j in zip(a.tolist(), b.tolist())}  # noqa: B905
    rows = zip(counts.left.tolist(), counts.right.tolist(), counts.count.tolist(), strict=True)
    return {(a, b): n for a, b, n in rows}


def pairs_in(tokens: list[set[int]]) -> Counter:
    return Counter(pair for active in tokens for pair in combinations(sorted(active), 2))


@settings(deadline=None)
@given(TOKENS, st.integers(1, 4), st.sampled_from([0, 10**9]), st.booleans())
def test_pairs_are_counted_once_a_token(
    tokens: list[set[int]], parts: int, gain: int, every_pair: bool
) -> None:
    """By lists, by matrix products, and as a sample of all tokens, in parts that are merged."""
    level = torch.zeros(len(tokens), dtype=torch.int32)
    make = (lambda: PairTable(10, CPU)) if every_pair else (lambda: PairSample(10, 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coactivation, "DENSE_GAIN", gain)
        patch.setattr(coactivation, "KEYS_PER_UPDATE", 5)
        whole = make()
        for number in range(parts):
            part = make()
            part.add(*entries(tokens[number::parts]), level)
            whole.merge(**part.state())
    got = whole.joint()
    assert joint_of(got) == dict(pairs_in(tokens))
    assert got.active.tolist() == [sum(f in active for active in tokens) for f in range(10)]
    assert got.rate == 1


@settings(deadline=None)
@example([{0, 1, 2}, {3, 4, 5}], 5, 30, Random(0))
@given(TOKENS, st.integers(1, 40), st.integers(1, 30), st.randoms())
def test_a_sample_is_all_of_the_lowest_level_that_fits(
    tokens: list[set[int]], pairs: int, flush: int, dice
) -> None:
    """Whatever the order and the size of the steps: a function of the tokens alone."""
    level = token_levels(hash_ids(torch.arange(len(tokens), dtype=torch.int32), 3)).tolist()
    held = {
        n: sum(
            len(pairs_in([t for t, at in zip(tokens, level, strict=True) if at == one]))
            for one in range(n, 32)
        )
        for n in range(33)
    }
    want = next(n for n in range(33) if held[n] <= pairs)
    order = list(range(len(tokens)))
    dice.shuffle(order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coactivation, "MAX_SAMPLED_PAIRS", pairs)
        patch.setattr(coactivation, "FLUSH_PAIRS", flush)
        sample = PairSample(10, 0)
        for part in (order[::2], order[1::2]):
            one = PairSample(10, 0)
            levels = torch.tensor([level[i] for i in part], dtype=torch.int32)
            one.add(*entries([tokens[i] for i in part]), levels)
            sample.merge(**one.state())
    kept = [t for t, at in zip(tokens, level, strict=True) if at >= want]
    assert sample.level == want and len(sample.keys) <= pairs
    assert joint_of(sample.joint()) == dict(pairs_in(kept))
    assert sample.joint().active.tolist() == [sum(f in t for t in kept) for f in range(10)]


def test_levels_are_the_samples_of_halved_rates() -> None:
    ids = torch.arange(50_000, dtype=torch.int32)
    level = token_levels(hash_ids(ids, 11))
    for n in range(12):
        assert torch.equal(level >= n, select_by_hash(ids, 11, 2.0**-n))
    assert token_levels(torch.tensor([0, 1, 0x7FFFFFFF, -1], dtype=torch.int32)).tolist() == [
        31,
        30,
        0,
        0,
    ]


def test_a_token_with_more_pairs_than_fit_is_never_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neurons of a wide layer: every token has all pairs."""
    monkeypatch.setattr(coactivation, "MAX_SAMPLED_PAIRS", 1000)
    monkeypatch.setattr(coactivation, "expand_segments", None)  # listing would need it
    sample = PairSample(500, 0)
    row = torch.arange(20, dtype=torch.int32).repeat_interleave(500)
    feature = torch.arange(500, dtype=torch.int32).repeat(20)
    sample.add(row, feature, torch.zeros(20, dtype=torch.int32))
    assert sample.level == 1 and not len(sample.joint().count)


def test_what_is_exact_and_where_a_sample_begins() -> None:
    assert pair_table_fits(4095, 1) and not pair_table_fits(4096, 1)
    assert pair_table_fits(1536, 24) and not pair_table_fits(4000, 24)
    assert initial_sample_level(1.0, 10**6) == 0  # no pairs
    assert initial_sample_level(32.0, 4000) == 0
    for tokens in (10**5, 10**6, 10**7):  # grows with the harvest: an even share of its tokens
        assert 496 * 2.0 ** -initial_sample_level(32.0, tokens) <= coactivation.WORK_PER_TOKEN
        assert 496 * 2.0 ** -initial_sample_level(32.0, tokens) > coactivation.WORK_PER_TOKEN / 2


@pytest.mark.parametrize("table", [True, False])
def test_phi_by_hand(table: bool) -> None:
    """Four features on 20 tokens: 0 and 1 the same six, 2 the others, 3 always."""
    left, right, count = np.array([0, 0, 1, 2]), np.array([1, 3, 3, 3]), np.array([6, 6, 6, 14])
    square = np.zeros((4, 4), dtype=np.int32)
    square[left, right] = square[right, left] = count
    active = np.array([6, 6, 14, 20])
    joint = JointCounts(1.0, active, square if table else None, left, right, count)
    found = coactive_columns(joint, 20)
    assert found["coactive"].to_pylist() == [[1], [0], [], []]
    assert found["coactive_phi"].to_pylist() == [[1.0], [1.0], [], []]
    assert found["coactive_count"].to_pylist() == [[6], [6], [], []]


def test_table_and_list_name_the_same_pairs() -> None:
    """With ties at the tenth place, the smaller number first."""
    dice = np.random.default_rng(0)
    on = (dice.random((400, 40)) < dice.choice([0.1, 0.3, 0.5], 40)).astype(np.int64)
    on[:, 20:40] = on[:, :20]  # twins: every φ comes twice
    square = (on.T @ on).astype(np.int32)
    np.fill_diagonal(square, 0)
    a, b = np.triu(square).nonzero()
    as_table = JointCounts(1.0, on.sum(0), square, a[:0], a[:0], a[:0])
    as_list = JointCounts(1.0, on.sum(0), None, a, b, square[a, b])
    got, want = coactive_columns(as_table, 400), coactive_columns(as_list, 400)
    assert {k: v.to_pylist() for k, v in got.items()} == {k: v.to_pylist() for k, v in want.items()}
    phi = np.corrcoef(on.T)
    for feature, others in enumerate(got["coactive"].to_pylist()):
        assert others[0] == (feature + 20) % 40
        assert phi[feature, others] == pytest.approx(sorted(phi[feature, others], reverse=True))


@pytest.mark.parametrize(
    ("p", "q", "both"), [(0.02, 0.03, 0.012), (0.3, 0.2, 0.1), (0.5, 0.5, 0.3)]
)
def test_the_margin_of_a_sampled_phi_holds_the_true_one(p: float, q: float, both: float) -> None:
    """Over 400 samples of three fifths of 5,000 tokens; and there is none where all are counted."""
    dice = np.random.default_rng(0)
    n, rate = 5000, 0.6
    kind = dice.choice(4, n, p=[both, p - both, q - both, 1 - p - q + both])
    x, y = np.isin(kind, [0, 1]), np.isin(kind, [0, 2])
    true, held = np.corrcoef(x, y)[0, 1], 0
    for _ in range(400):
        drawn = dice.choice(n, int(n * rate), replace=False)
        phi = np.corrcoef(x[drawn], y[drawn])[0, 1]
        held += abs(phi - true) <= (phi_margin(phi, p, q, len(drawn), rate) or 0)
    assert 0.92 <= held / 400 <= 0.98
    assert phi_margin(0.4, p, q, n, 1.0) == 0
    assert phi_margin(0.4, 1.0, q, n, 0.5) is None


def test_the_page_shows_the_margin_of_a_sampled_phi_and_none_of_an_exact_one(
    harvested: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "href", lambda *_: "there")
    file = HarvestFile(harvested)
    info = file.dictionary("top")
    ids = (FeatureId("top", i) for i in range(info.d_sae))
    one = next(facts for facts in map(file.facts, ids) if facts.coactive and facts.density < 1)
    place = SimpleNamespace(file=file, at=lambda i: {"feature": f"top/{i}"}, info=info)
    subject = SimpleNamespace(id=FeatureId("top", one.feature), facts=one, place=place)
    other = next(i for i in one.coactive or [] if file.facts(FeatureId("top", i)).density < 1)
    assert "±" not in neighbours.make_neighbour_row(subject, "coactive", other, 0.4)["cells"][1]  # type: ignore
    assert neighbours.describe_phi_basis(info).startswith("all ")
    place.info = replace(info, coactive_rate=0.25, coactive_tokens=100)
    assert "+0.40 ± " in neighbours.make_neighbour_row(subject, "coactive", other, 0.4)["cells"][1]  # type: ignore
    assert neighbours.describe_phi_basis(place.info).startswith("100 sampled tokens")
    assert "no token" in neighbours.describe_phi_basis(replace(place.info, coactive_tokens=0))
