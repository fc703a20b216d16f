"""Verdicts on judges: "at chance" is a finding, "too few" says what would have been seen."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.scores import means, read, tables, telling
from autointerp.pipeline.score_summary import share_of_yes_answers
from feature_store import score_storage
from feature_store.score_storage import read_yes_shares
from feature_store.statistics import Estimate, judge_difference, mean_over_features
from feature_store.statistics.difference_verdict import EQUIVALENCE_MARGIN
from feature_store.store import Store
from tests.scored import FEATURES, NAME, estimate, explained, row
from tests.stores import make_store

ALL = (-1.0, 1.0)


@settings(max_examples=40, deadline=None)
@given(
    mean=st.floats(-0.2, 0.2),
    spread=st.floats(0.001, 0.4),
    n=st.integers(0, 200),
    seed=st.integers(0, 9),
)
def test_at_chance_means_that_the_interval_excludes_every_difference_that_matters(
    mean: float, spread: float, n: int, seed: int
) -> None:
    values = np.clip(np.random.default_rng(seed).normal(mean, spread, n), -1, 1)
    found = judge_difference(np.r_[values, np.nan], ALL)
    one = mean_over_features(values, ALL)
    if one.low is None or one.high is None:
        assert found.finding == "too few"
        return
    inside = one.low >= -EQUIVALENCE_MARGIN and one.high <= EQUIVALENCE_MARGIN
    assert (found.finding == "at chance") == inside
    assert inside or (found.finding == "above") == (one.low > 0)
    assert inside or (found.finding == "below") == (one.high < 0)
    assert (found.detectable or 0) >= (one.high - one.low) / 2 * 0.9


def test_the_difference_that_could_have_been_seen_is_seen_four_times_of_five() -> None:
    """Intervals of jobs whose true difference is the stated one lie above 0 in 80 %."""
    dice, n, spread = np.random.default_rng(0), 40, 0.2
    stated = np.mean(
        [judge_difference(dice.normal(0, spread, n), ALL).detectable or 0 for _ in range(50)]
    )
    above = [
        judge_difference(dice.normal(stated, spread, n), ALL).finding == "above" for _ in range(300)
    ]
    assert 0.72 <= np.mean(above) <= 0.88


@pytest.mark.parametrize(
    ("values", "finding", "sentence"),
    [
        ([0.1, 0.2, 0.0] * 20, "above", "Own labels score above borrowed ones: +0.10 ["),
        ([-0.1, -0.2, 0.0] * 20, "below", "below borrowed ones: −0.10 ["),
        ([0.0] * 100, "at chance", "At chance: the difference between own and borrowed labels"),
        ([0.5, -0.5] * 20, "too few", "a difference of 0.2"),
        ([0.5, -0.5], "too few", "(features with both scores: 2): a difference of "),
        ([0.0] * 3, "too few", "to tell (features with both scores: 3)"),
        ([], "too few", "(features with both scores: 0)"),
    ],
)
def test_findings_in_words(values: list[float], finding: str, sentence: str) -> None:
    found = judge_difference(np.array(values), ALL)
    assert found.finding == finding and sentence in found.sentence, found


def test_the_share_of_yes_counts_firing_and_silent_windows_alike() -> None:
    """Always yes: right about every firing window, wrong about every silent one."""
    ones, zeros = np.ones(30), np.zeros(30)
    assert share_of_yes_answers(ones, zeros) == {"n": 30, "mean": 1.0}
    assert share_of_yes_answers(zeros, ones)["mean"] == 0.0
    assert (
        share_of_yes_answers(ones, ones)["mean"]
        == share_of_yes_answers(ones / 2, ones / 2)["mean"]
        == 0.5
    )
    assert share_of_yes_answers(np.full(3, np.nan), ones[:3]) == {"n": 0, "mean": None}


@pytest.fixture
def judged(tmp_path: Path) -> Store:
    """Scores of a judge that says yes to 0.9 of the windows, alike for own and borrowed labels."""
    store = make_store(tmp_path / "store")
    parts = {"firing": estimate(0.9), "silent random": estimate(0.1)}
    rows = [
        row(number, feature, "detection", 0.5, parts=parts)
        for number, feature in zip(explained(store), FEATURES, strict=True)
    ]
    intruder = row(rows[0].explanation, FEATURES[0], "intruder", 0.2)
    score_storage.save_scores(store.catalog, [*rows, intruder])
    return store


def test_pages_say_the_verdict_and_the_share_of_yes(judged: Store) -> None:
    shares = read_yes_shares(judged.catalog, NAME)
    assert len(shares) == len(FEATURES) and all(x == pytest.approx(0.9) for x in shares.values())
    detection, intruder = (
        means.line(one, shares)
        for one in read.series(judged.harvest(), NAME, judged.catalog.snapshot())
    )
    assert detection.yes == {"n": len(FEATURES), "mean": pytest.approx(0.9)}
    assert detection.verdict and detection.verdict.finding == "too few"  # 29 equal differences
    names = [name for name, *_ in tables.MEANS]
    assert "90" in tables.means(detection, judges=False)[names.index("says yes")]
    assert intruder.yes is None and intruder.verdict is None  # its judge sees no label


def test_lines_of_jobs_say_them_too() -> None:
    verdict = judge_difference(np.zeros(100), ALL).to_json()
    one = {
        "explainer": "e",
        "scorer": "detection",
        "n": 50,
        "mean": 0.5,
        "low": 0.45,
        "high": 0.55,
        "yes": {"n": 50, "mean": 0.93},
        "verdict": verdict,
    }
    said = telling.said(one)
    assert "says yes to 93" in said and "At chance" in said and not said.endswith(".")
    assert "says yes" not in telling.said(one | {"yes": None, "verdict": None})


@pytest.mark.parametrize("unit", ["documents", "features", "firing windows"])
def test_too_few_names_what_was_counted(unit: str) -> None:
    """A correlation over 1,504 tokens of 12 documents lacks documents."""
    found = Estimate.too_few(1504, 12, found=12, unit=unit)
    assert found.note == f"too few {unit}: 12, and 20 are needed" and found.n == 1504
