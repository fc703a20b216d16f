"""What is shown and asked: splits apart, silence exact, samples of known weight, clear refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autointerp import baseline_labels
from autointerp.contexts import (
    MIN_WINDOWS,
    FeatureSample,
    SampleSettings,
    TextWindow,
    TooFewWindows,
    choose_windows_to_score,
    draw_windows,
    evenly_spaced,
    sample_feature,
    sample_features,
)
from autointerp.silent_negatives import get_silent_windows, overlaps_any
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from feature_store.store import Store

NAMES = ("top", "abs", "relu")


@pytest.fixture(scope="module")
def file(base: Store) -> HarvestFile:
    """Enough windows of each class for most features."""
    return base.harvest()


@pytest.fixture(scope="module")
def drawn(file: HarvestFile) -> list[FeatureSample]:
    pairs = [pair for n in NAMES for pair in sample_features(file, n, range(30))]
    found = [one for _, one in pairs if isinstance(one, FeatureSample)]
    assert len(found) >= 10 and any(one.hard for one in found)
    return found


def windows(one: FeatureSample, split: str) -> list[TextWindow]:
    parts = (
        [one.explain, one.explain_more, one.explain_random, one.explain_hard]
        if split == "explain"
        else [one.positives, one.random, one.hard, one.other]
    )
    return [example for part in parts for example in part]


def test_no_document_is_on_both_sides(drawn: list[FeatureSample]) -> None:
    for one in drawn:
        sides = {s: {e.document for e in windows(one, s)} for s in ("explain", "score")}
        assert not sides["explain"] & sides["score"] and not one.notes
        assert all(e.split == split for split in sides for e in windows(one, split))
        shown = {e.document for e in one.explain}
        assert not shown & {e.document for e in one.explain_more}


def test_a_document_on_both_sides_is_an_assertion(file: HarvestFile) -> None:
    """Unless the corpus has so few that each is cut in blocks, which is said."""
    feature = firing(file, "top")
    pool, kept = get_silent_windows(file, "top"), get_silent_windows(file, "top")._documents
    try:
        pool._documents = dict.fromkeys(kept, frozenset([0]))
        with pytest.raises(AssertionError, match="in both splits"):
            sample_feature(file, feature)
        pool.few_documents = True
        assert "few documents" in sample_feature(file, feature).notes[0]
    finally:
        pool._documents, pool.few_documents = kept, False


def firing(file: HarvestFile, name: str) -> FeatureId:
    pairs = sample_features(file, name, range(30))
    return next(feature for feature, one in pairs if isinstance(one, FeatureSample) and one.hard)


def test_windows_fire_or_are_silent_as_they_say(
    file: HarvestFile, drawn: list[FeatureSample]
) -> None:
    for one in drawn:
        stored = file.silent_windows(one.feature.dictionary, "score")
        quiet = {(w.sequence, w.start) for w in stored if one.feature.index not in w.features}
        assert {e.key for e in (*one.random, *one.hard)} <= quiet
        for e in (*one.random, *one.hard):
            assert not any(e.activations) and e.peak == -1
        for e in (*one.explain, *one.positives):
            assert abs(e.activations[e.peak]) == max(map(abs, e.activations)) > 0
            assert len(e.tokens) == len(e.token_ids) == len(e.activations)
            ids = file.sequences.window(e.sequence, e.start, len(e.token_ids))
            assert e.token_ids == tuple(ids) and e.text == "".join(file.vocabulary.display(ids))


def test_hard_windows_are_the_silent_ones_most_like_the_top(
    file: HarvestFile, drawn: list[FeatureSample]
) -> None:
    for one in drawn:
        contexts = file.contexts(one.feature)
        top = [c for c in contexts if c.stratum != "range"]
        peaks = {int(file.sequences.tokens(c.sequence)[c.peak]) for c in top}
        pool = get_silent_windows(file, one.feature.dictionary)
        likeness = pool.likeness_to(top).likeness
        place = {(w.sequence, w.start): i for i, w in enumerate(pool.windows)}
        values = [likeness[place[e.key]] for e in one.hard]
        assert values == sorted(values, reverse=True) and all(v > 0 for v in values)
        silent = pool.silent_window_numbers(one.feature.index, "score")
        assert len(one.hard) <= max(len(silent) // 2, 20)
        if values:
            left = set(silent.tolist()) - {place[e.key] for e in one.hard}
            assert max((likeness[i] for i in left), default=0) <= values[-1] + 1e-12
        for e in one.hard:
            assert (e.shared >= 0) == bool(peaks & set(e.token_ids))
            assert e.shared < 0 or e.token_ids[e.shared] in peaks


def test_random_windows_may_hold_the_peaks_token(drawn: list[FeatureSample]) -> None:
    """A random sample leaves nothing out; or the rate of right answers would be too good."""
    assert any({e.key for e in one.random} & {e.key for e in one.hard} for one in drawn)


def test_no_two_positives_show_the_same_text_twice(drawn: list[FeatureSample]) -> None:
    for one in drawn:
        for part in (one.explain, one.positives):
            tops = [e for e in part if e.kind == "top"]
            for e in part:
                others = [t for t in tops if t is not e and t.sequence == e.sequence]
                ends = [(t.start, t.start + len(t.tokens)) for t in others]
                assert not any(e.start < b and a < e.start + len(e.tokens) for a, b in ends)


def test_thinning_keeps_what_the_sample_stands_for(file: HarvestFile) -> None:
    """The expected sum of weights is that of the whole range."""
    contexts = [c for c in file.contexts(firing(file, "top")) if c.split == "score"]
    whole = sum(c.weight for c in contexts if c.weight is not None)
    sums = []
    for seed in range(300):
        rows = choose_windows_to_score(contexts, 12, np.random.default_rng(seed))
        assert len(rows) <= 12
        sums.append(sum(weight for _, weight in rows if weight is not None))
        tops = [c for c, weight in rows if weight is None]
        assert not any(overlaps_any(t, [c for c, w in rows if w is not None]) for t in tops)
    assert np.mean(sums) == pytest.approx(whole, rel=0.1)


def test_even_steps_take_each_number_equally_often() -> None:
    counts = np.zeros(7)
    for seed in range(4000):
        got = evenly_spaced(7, 3, np.random.default_rng(seed))
        assert len(set(got)) == 3
        counts[got] += 1
    assert counts / 4000 == pytest.approx(np.full(7, 3 / 7), abs=0.03)


def test_one_by_one_and_many_are_the_same_and_the_seed_matters(file: HarvestFile) -> None:
    feature = firing(file, "relu")
    many = dict(sample_features(file, "relu", [*range(29, -1, -1)], SampleSettings(seed=3)))
    assert many[feature] == sample_feature(file, feature, seed=3)
    assert list(many)[0].index == 29
    draws = [sample_feature(file, feature, n_negative=5, seed=seed).random for seed in (3, 4)]
    assert {e.key for e in draws[0]} != {e.key for e in draws[1]}


def test_a_side_of_a_signed_feature_has_the_other_as_a_stratum(file: HarvestFile) -> None:
    pairs = sample_features(file, "abs", range(60), SampleSettings(sign="negative"))
    found = [one for _, one in pairs if isinstance(one, FeatureSample)]
    assert found
    for one in found:
        assert all(a <= 0 for e in (*one.explain, *one.positives) for a in e.activations)
        assert all(a >= 0 for e in one.other for a in e.activations)
        assert all(e.kind == "other side" and e.peak >= 0 for e in one.other)


def test_features_that_cannot_be_scored_say_why(file: HarvestFile, harvested: Path) -> None:
    reasons = {}
    for name in NAMES:
        for _, one in sample_features(file, name, range(30)):
            if isinstance(one, TooFewWindows):
                reasons[one.reason] = str(one)
    assert reasons.keys() <= {"dead", "few", "dense"}
    small = HarvestFile(harvested)  # 8 windows a split, 10 contexts
    firing_there = next(
        f
        for f, one in sample_features(small, "top", range(120))
        if getattr(one, "reason", "") == "few"
    )
    with pytest.raises(TooFewWindows, match="firing windows"):
        sample_feature(small, firing_there)
    with pytest.raises(InputError, match="There is no feature top/9999"):
        sample_feature(file, FeatureId("top", 9999))


def test_too_dense_is_told_from_the_pool(file: HarvestFile) -> None:
    feature, pool = firing(file, "top"), get_silent_windows(file, "top")
    kept = pool._in
    try:
        whole = np.ones(len(pool.windows), bool)
        pool._in = {"explain": whole, "score": ~whole}
        with pytest.raises(
            TooFewWindows, match=rf"silent in 0 of the pool's 0 .* not {MIN_WINDOWS}"
        ) as error:
            sample_feature(file, feature)
        assert error.value.reason == "dense"
    finally:
        pool._in = kept


def test_a_dead_feature_is_said_to_be_dead(tmp_path: Path) -> None:
    from tests.stores import DEAD, make_store

    file = make_store(tmp_path / "store").harvest()
    with pytest.raises(TooFewWindows, match=f"resid/{DEAD} never fired") as error:
        sample_feature(file, FeatureId("resid", DEAD))
    assert error.value.reason == "dead"


def test_lenders_are_others_of_like_density() -> None:
    density = {i: 0.9**i for i in range(60)} | {99: 0.0}
    lent = baseline_labels.choose_lenders(density)
    assert lent.keys() == density.keys()
    assert all(i != j and j in density for i, j in lent.items())
    assert all(
        abs(i - lent[i]) <= 2 * baseline_labels.DENSITY_NEIGHBOURS
        for i in range(50)
        if lent[i] != 99
    )
    assert lent == baseline_labels.choose_lenders(dict(reversed(density.items())))
    assert lent != baseline_labels.choose_lenders(density, seed=1)
    assert baseline_labels.choose_lenders({4: 0.1}) == {}


def test_the_label_of_the_most_frequent_token(drawn: list[FeatureSample]) -> None:
    one = replace(drawn[0], top_token=" dog")
    assert baseline_labels.make_token_label(one) == "fires on “dog”"
    assert baseline_labels.make_token_label(replace(one, top_token="\n")) == "fires on “\\n”"
    assert baseline_labels.make_token_label(replace(one, top_token=None)) is None


def test_only_what_is_wanted_is_made(file: HarvestFile) -> None:
    feature = firing(file, "top")

    def drawn(wanted: SampleSettings) -> FeatureSample:
        ((_, one),) = sample_features(file, "top", [feature.index], wanted)
        assert isinstance(one, FeatureSample)
        return one

    whole = drawn(SampleSettings())
    beside = {"explain_more": (), "explain_random": (), "explain_hard": ()}
    assert whole.positives and whole.explain_random and whole.explain_hard
    assert drawn(SampleSettings(scored=False)) == replace(
        whole, positives=(), random=(), hard=(), other=()
    )
    assert drawn(SampleSettings(with_silent=False)) == replace(whole, **beside)
    assert drawn(SampleSettings(shown=False)) == replace(whole, explain=(), **beside)


def test_what_is_shown_follows_from_its_own_split(file: HarvestFile) -> None:
    """Down to which silent windows look like firing ones: the score split of another feature in
    place of its own changes nothing that an explainer sees."""
    feature = firing(file, "top")
    others = (
        f for f, one in sample_features(file, "top", range(30)) if isinstance(one, FeatureSample)
    )
    stranger = next(f for f in others if f != feature)
    own = file.contexts(feature)
    swapped = [c for c in own if c.split == "explain"]
    swapped += [c for c in file.contexts(stranger) if c.split == "score"]
    one, two = (
        draw_windows(file, file.facts(feature), stored, SampleSettings())
        for stored in (own, swapped)
    )
    assert isinstance(one, FeatureSample) and isinstance(two, FeatureSample)
    assert windows(one, "explain") == windows(two, "explain") and one.explain_hard
    assert one.positives != two.positives


def test_many_are_read_by_a_few_reads_wherever_they_are(
    file: HarvestFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The most active features are all over a dictionary: a read each would take milliseconds."""
    get_silent_windows(file, "relu")
    asked, rows = [], file.rows
    monkeypatch.setattr(file, "rows", lambda *given: asked.append(given) or rows(*given))
    monkeypatch.setattr(file, "facts", None)
    found = list(sample_features(file, "relu", [29, 3, 17, 8, 22]))
    assert len(asked) == 2 and any(isinstance(one, FeatureSample) for _, one in found)
