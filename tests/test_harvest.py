"""Every number of a harvest against brute force: one dense array of all activations, and numpy."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch

from feature_store.activation_histogram import bin_edge
from feature_store.harvest_reader import HarvestFile
from feature_store.records import Context, FeatureFacts, FeatureId, SignStatistics
from tests.harvests import PLAN, WIDTH, Rig, content

ROUNDING = 2e-5
"""Relative: a sequence alone and in a batch differ in the last bits of float32."""


@dataclass
class Brute:
    """All activations of one dictionary, from the published sequences, one at a time."""

    rig: Rig
    file: HarvestFile
    rows: list[dict]
    """The file's table `sequence`."""
    name: str

    @cached_property
    def tokens(self) -> np.ndarray:
        return np.concatenate([row["token_ids"] for row in self.rows])

    @cached_property
    def where(self) -> np.ndarray:
        """[row 5]: sequence, position, document, segment, split."""
        found = []
        for row in self.rows:
            documents, borders = row["documents"] or [row["document"]], row["borders"] or [0]
            for position in range(len(row["token_ids"])):
                segment = sum(border <= position for border in borders[1:])
                place = (row["sequence"], position, documents[segment], segment)
                found.append((*place, int(row["split"] == "score")))
        return np.array(found)

    @cached_property
    def begin(self) -> np.ndarray:
        """[row] the position where the row's segment begins; BOS is part of the first."""
        return np.array(
            [
                0 if segment == 0 else self.rows[sequence]["borders"][segment]
                for sequence, _, _, segment, _ in self.where
            ]
        )

    @cached_property
    def window(self) -> np.ndarray:
        """[row] the number of its window in the grid."""
        within = (self.where[:, 1] - self.begin) // WIDTH
        keys = np.stack([self.where[:, 0], self.where[:, 3], within], axis=1)
        return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)

    @cached_property
    def counted(self) -> np.ndarray:
        return ~np.isin(self.tokens, sorted(self.rig.lm.special_ids))

    @cached_property
    def all_acts(self) -> np.ndarray:
        """[row d_sae], BOS and special tokens included."""
        dictionary = {d.name: d for d in self.rig.found}[self.name]
        hook, parts = dictionary.hook_name, []
        for row in self.rows:
            x = self.rig.lm.activations(torch.tensor([row["token_ids"]]), [hook])[hook]
            parts.append(dictionary.encode(x)[0].double().numpy())
        return np.concatenate(parts)

    @cached_property
    def acts(self) -> np.ndarray:
        """[row d_sae], zero where not counted."""
        return self.all_acts * self.counted[:, None]

    def peaks(self, signed_acts: np.ndarray) -> np.ndarray:
        """[window] largest magnitude of one column."""
        found = np.zeros(self.window.max() + 1)
        np.maximum.at(found, self.window, np.abs(signed_acts))
        return found

    def windows_of(self, column: int) -> np.ndarray:
        """[window] a column of `where` at each window's first row."""
        return self.where[np.unique(self.window, return_index=True)[1], column]


@pytest.fixture(scope="module")
def packed(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same corpus with several documents a sequence."""
    return rig.harvest(tmp_path_factory.mktemp("packed"), pack=True)


CASES = ["harvested top", "harvested abs", "harvested relu", "harvested seq", "packed abs"]


@pytest.fixture(scope="module", params=CASES)
def brute(request: pytest.FixtureRequest, rig: Rig) -> Brute:
    layout, name = request.param.split()
    path = request.getfixturevalue(layout)
    return Brute(rig, HarvestFile(path), content(path)["sequence"], name)


def features(brute: Brute) -> list[tuple[FeatureFacts, np.ndarray]]:
    """Each feature's facts and its column."""
    n = brute.acts.shape[1]
    return [(brute.file.facts(FeatureId(brute.name, i)), brute.acts[:, i]) for i in range(n)]


def close(value: float) -> object:
    return pytest.approx(value, rel=ROUNDING, abs=ROUNDING)


def check_side(side: SignStatistics | FeatureFacts, a: np.ndarray, brute: Brute) -> None:
    """What exists per sign, from a column that holds only that sign."""
    size, n = np.abs(a[a != 0]), brute.counted.sum()
    assert side.n_active == len(size)
    assert side.density == pytest.approx(len(size) / n)
    assert side.window_density == pytest.approx((brute.peaks(a) > 0).mean())
    if not len(size):
        assert (side.max_act, side.mean_act, side.std_act, side.histogram) == (None,) * 4
        return
    assert (side.max_act, side.mean_act) == (close(size.max()), close(size.mean()))
    assert side.std_act == pytest.approx(size.std(), abs=1e-4 * size.max())
    check_histogram(side.histogram_start, side.histogram, size)
    if size.std() > 1e-3 * size.max():
        z = (size - size.mean()) / size.std()
        assert side.skew == pytest.approx((z**3).mean(), rel=1e-3, abs=1e-3)
        assert side.kurtosis == pytest.approx((z**4).mean(), rel=1e-3, abs=1e-3)


def check_histogram(start: int | None, histogram: list[int] | None, size: np.ndarray) -> None:
    """The counts below each edge; a value within rounding of an edge may lie on either side."""
    assert start is not None and histogram is not None
    assert sum(histogram) == len(size) and histogram[0] and histogram[-1]
    for number, below in enumerate(np.cumsum(histogram), start=1):
        edge = bin_edge(start + number)
        assert (size < edge * (1 - ROUNDING)).sum() <= below <= (size < edge * (1 + ROUNDING)).sum()


def test_counts_moments_and_histograms(brute: Brute) -> None:
    for facts, a in features(brute):
        check_side(facts, a, brute)
        if facts.positive and facts.negative:
            check_side(facts.positive, a.clip(min=0), brute)
            check_side(facts.negative, a.clip(max=0), brute)
        assert (facts.positive is not None) == (brute.name == "abs")


def test_the_tiny_harvest_has_the_cases_that_matter(brute: Brute) -> None:
    """A dead feature where there can be one, a rare one; with signs, both in one window."""
    n = (brute.acts != 0).sum(0)
    if brute.name == "abs":
        ups, downs = brute.acts.clip(min=0), brute.acts.clip(max=0)
        both = [
            (brute.peaks(a) > 0) & (brute.peaks(b) > 0) for a, b in zip(ups.T, downs.T, strict=True)
        ]
        assert sum(windows.any() for windows in both) > 10
    if brute.name == "top":
        assert (n == 0).any() and (n == 1).any() and (n > 1000).any()


def test_means_over_all_tokens_positions_and_bos(brute: Brute) -> None:
    first = brute.where[:, 1] == 0
    for facts, a in features(brute):
        assert facts.mean_all == pytest.approx(a.sum() / brute.counted.sum(), rel=1e-4, abs=1e-6)
        assert facts.bos_act == close(brute.all_acts[first, facts.feature][0])
        where = brute.where[a != 0, 1]
        assert facts.mean_position == (pytest.approx(where.mean()) if len(where) else None)


def test_the_histogram_of_window_maxima(brute: Brute) -> None:
    for facts, a in features(brute):
        if not a.any():
            assert facts.window_histogram is None
            continue
        sides = [a.clip(min=0), a.clip(max=0)] if brute.name == "abs" else [a]
        peaks = np.concatenate([brute.peaks(side) for side in sides])
        check_histogram(facts.window_histogram_start, facts.window_histogram, peaks[peaks > 0])


def test_the_most_frequent_token_and_its_share(brute: Brute) -> None:
    assert brute.file.dictionary(brute.name).token_sample_rate == 1
    for facts, a in features(brute):
        on = a != 0
        assert facts.top_token_n == on.sum()
        if not on.any():
            assert facts.top_token is None and facts.top_token_share is None
            continue
        assert facts.top_token == np.bincount(brute.tokens[on]).argmax()
        share = np.abs(a[brute.tokens == facts.top_token]).sum() / np.abs(a).sum()
        assert facts.top_token_share == close(share)


def test_coactivation(brute: Brute) -> None:
    assert brute.file.dictionary(brute.name).coactive_rate == 1
    on = (brute.acts[brute.counted] != 0).astype(float)
    joint, active, n = on.T @ on, on.sum(0), len(on)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(active * (n - active))
        phi = (n * joint - np.outer(active, active)) / np.outer(spread, spread)
    phi[~(np.isfinite(phi) & (phi > 0) & (joint >= 5))] = 0
    np.fill_diagonal(phi, 0)
    for i in range(len(active)):
        facts = brute.file.facts(FeatureId(brute.name, i))
        best = np.sort(phi[i])[::-1][:10]
        assert facts.coactive_phi == pytest.approx(best[best > 0], abs=1e-6)
        assert facts.coactive_phi == pytest.approx(phi[i, facts.coactive], abs=1e-6)
        assert facts.coactive_count == joint[i, facts.coactive].tolist()


def sides(brute: Brute, feature: int) -> dict[str, np.ndarray]:
    """The column of each stratum of extremes: with signs, positive and negative apart."""
    a = brute.acts[:, feature]
    return {"top": a.clip(min=0), "bottom": a.clip(max=0)} if brute.name == "abs" else {"top": a}


def contexts(brute: Brute, feature: int, stratum: str) -> list[Context]:
    found = [c for c in brute.file.contexts(FeatureId(brute.name, feature)) if c.stratum == stratum]
    assert [c.rank for c in found] == list(range(len(found)))
    return found


def test_top_contexts_are_the_strongest_one_per_document_half_a_split(brute: Brute) -> None:
    document, split = brute.windows_of(2), brute.windows_of(4)
    for feature in range(brute.acts.shape[1]):
        for stratum, a in sides(brute, feature).items():
            found, peaks = contexts(brute, feature, stratum), brute.peaks(a)
            size = [abs(c.value) for c in found]
            assert size == sorted(size, reverse=True)
            for number, name in enumerate(["explain", "score"]):
                best = np.zeros(document.max() + 1)
                np.maximum.at(best, document[split == number], peaks[split == number])
                want = np.sort(best[best > 0])[::-1][: PLAN.top // 2]
                mine = [c for c in found if c.split == name]
                assert [abs(c.value) for c in mine] == pytest.approx(want, rel=ROUNDING)
                assert len({c.document for c in mine}) == len(mine)
                assert best[[c.document for c in mine]] == pytest.approx(want, rel=ROUNDING)


def rows_of(brute: Brute, c: Context) -> np.ndarray:
    """The rows that a context covers."""
    sequence, position = brute.where[:, 0], brute.where[:, 1]
    return (sequence == c.sequence) & (position >= c.start) & (position < c.start + c.length)


def test_a_context_holds_exactly_the_activations_of_its_window(brute: Brute) -> None:
    for feature in range(brute.acts.shape[1]):
        for c in brute.file.contexts(FeatureId(brute.name, feature)):
            rows = rows_of(brute, c)
            a = brute.acts[rows, feature]
            where = brute.where[rows, 1]
            assert len(where) == c.length
            assert c.positions == where[a != 0].tolist()
            assert c.activations == pytest.approx(a[a != 0], rel=ROUNDING)
            drawn_for = [v for v in c.activations if np.sign(v) == np.sign(c.value)]
            assert abs(c.value) == max(map(abs, drawn_for))  # the other sign may be larger
            assert c.activations[c.positions.index(c.peak)] == c.value
            assert set(brute.where[rows, 2]) == {c.document}
            assert set(brute.where[rows, 4]) == {int(c.split == "score")}


def test_top_windows_stand_around_their_peak_and_range_windows_on_the_grid(brute: Brute) -> None:
    for feature in range(brute.acts.shape[1]):
        for c in brute.file.contexts(FeatureId(brute.name, feature)):
            rows = rows_of(brute, c)
            if c.stratum == "range":
                (number,) = set(brute.window[rows])
                assert (brute.window == number).sum() == c.length
                continue
            same = (brute.where[:, [0, 3]] == brute.where[rows][0, [0, 3]]).all(1)
            low, high = brute.where[same, 1].min(), brute.where[same, 1].max() + 1
            assert c.length == min(WIDTH, high - low)
            assert c.start == max(min(max(c.peak - WIDTH // 2, low), high - WIDTH), low)


def test_the_weights_of_a_range_sample_sum_to_the_firing_windows(brute: Brute) -> None:
    split = brute.windows_of(4)
    for feature in range(brute.acts.shape[1]):
        found = contexts(brute, feature, "range")
        for a in sides(brute, feature).values():
            sign = np.sign(a.sum())
            for number, name in enumerate(["explain", "score"]):
                peaks = brute.peaks(a)[split == number]
                octaves = np.frexp(peaks[peaks > 0])[1]
                mine = [c for c in found if c.split == name and np.sign(c.value) == sign]
                assert len(mine) == min(PLAN.ranged // 2, len(octaves))
                seen = {np.frexp(abs(c.value))[1] for c in mine}
                strongest = sorted(set(octaves))[-PLAN.ranged // 2 :]
                assert sorted(seen) == strongest
                weights = [c.weight or 0 for c in mine]
                assert sum(weights) == pytest.approx(np.isin(octaves, strongest).sum())


def test_silent_windows_hold_everything_and_come_half_from_each_split(brute: Brute) -> None:
    found = brute.file.silent_windows(brute.name)
    assert [w.split for w in found].count("score") == len(found) // 2 == PLAN.silent // 2
    for w in found:
        rows = np.flatnonzero(
            (brute.where[:, 0] == w.sequence)
            & (brute.where[:, 1] >= w.start)
            & (brute.where[:, 1] < w.start + w.length)
        )
        assert w.length == len(rows) == WIDTH and set(brute.window[rows]) == {w.window}
        row, feature = brute.acts[rows].nonzero()
        assert w.positions == brute.where[rows[row], 1].tolist()
        assert w.features == feature.tolist()
        assert w.activations == pytest.approx(brute.acts[rows[row], feature], rel=ROUNDING)


def test_the_harvests_own_counts(brute: Brute) -> None:
    record, info = brute.file.record, brute.file.dictionary(brute.name)
    assert record.tokens == brute.counted.sum() == info.coactive_tokens == info.token_sample_tokens
    assert record.windows == brute.window.max() + 1
    assert info.n_dead == (~brute.acts.any(0)).sum()
    assert info.mean_active == pytest.approx((brute.acts != 0).sum() / record.tokens)
    texts = brute.file.vocabulary.display(brute.file.sequences.tokens(3))
    assert len(texts) == len(brute.file.sequences.tokens(3))
