"""Circuits in bulk: picks are predictions, vectors are effects, planted behaviours are found."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from backend.attribution.dictionary_activations import read_dictionary_activations
from backend.attribution.exact_ablation import ablate_active_features
from backend.engine import LocalEngine
from backend.prediction_clusters.cluster_analysis import find_clusters, measure_joint_ablation
from backend.prediction_clusters.cluster_plan import CLUSTERING_METHODS, ClusterPlan
from backend.prediction_clusters.cosine_clustering import (
    cluster_rows,
    cluster_tightness,
    cosine_matrix,
    normalize_rows,
)
from backend.prediction_clusters.effect_vectors import (
    compute_effect_vectors,
    pad_prediction_prompts,
)
from backend.prediction_clusters.prediction_sample import REPEAT_WINDOW, sample_predictions
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from tests.harvests import Rig

EASY = 6.0
"""A loss that a random model reaches."""


@pytest.fixture(scope="module")
def live(rig: Rig) -> LocalEngine:
    return LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)


@pytest.fixture(scope="module")
def file(harvested: Path) -> HarvestFile:
    return HarvestFile(harvested)


def planted(groups: int, n: int, seed: int = 0) -> tuple[csr_matrix, np.ndarray]:
    """Rows of a few features of their group each, with signs, noise and lengths of their own."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(groups), n))
    rows = np.zeros((len(truth), 400))
    for i, group in enumerate(truth):
        rows[i, group * 20 : group * 20 + 8] = rng.normal(1, 0.2, 8) * (-1) ** np.arange(8)
        rows[i, rng.integers(0, 400, 5)] += rng.normal(0, 0.5, 5)
    return csr_matrix(rows * rng.lognormal(0, 2, len(truth))[:, None]), truth


@pytest.mark.parametrize("method", CLUSTERING_METHODS)
def test_planted_behaviours_are_recovered(method: str) -> None:
    from sklearn.metrics import adjusted_rand_score

    rows, truth = planted(6, 12)
    found = cluster_rows(normalize_rows(rows), 6, method, seed=0)
    assert adjusted_rand_score(truth, found) > 0.95
    sizes = np.bincount(found)
    assert (np.diff(sizes) <= 0).all()  # the largest has the number 0
    alike = cluster_tightness(cosine_matrix(normalize_rows(rows)), found)
    assert alike["inside"] > 0.6 > 0.2 > alike["chance"] > alike["outside"]


def test_picks_are_predictions_of_the_corpus(live: LocalEngine, file: HarvestFile) -> None:
    found = sample_predictions(live, file, 30, EASY, seed=1)
    assert len({one.sequence for one in found.picks}) == len(found.picks) == 30
    assert 30 <= found.n_well_predicted <= found.n_candidates
    for one in found.picks:
        tokens = file.sequences.tokens(one.sequence)
        assert tokens[one.position + 1] == one.target and one.loss < EASY
        ids = torch.tensor(tokens[: one.position + 2].astype(np.int64))[None]
        assert float(live.lm.token_losses(ids)[0, -1]) == pytest.approx(one.loss, abs=1e-4)
    ends = {
        tuple(file.sequences.tokens(p.sequence)[p.position + 2 - REPEAT_WINDOW : p.position + 2])
        for p in found.picks
    }
    assert len(ends) == 30


def test_the_seed_alone_decides(live: LocalEngine, file: HarvestFile) -> None:
    assert sample_predictions(live, file, 25, EASY, 3) == sample_predictions(
        live, file, 25, EASY, 3
    )
    assert (
        sample_predictions(live, file, 25, EASY, 3).picks
        != sample_predictions(live, file, 25, EASY, 4).picks
    )


def test_too_few_predictions_are_said(live: LocalEngine, file: HarvestFile) -> None:
    with pytest.raises(InputError, match="Set a higher loss"):
        sample_predictions(live, file, 30, 1e-9, seed=0)


def test_one_prediction_at_a_time_is_all_at_once(
    live: LocalEngine, file: HarvestFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [live.dictionaries[name] for name in ("top", "relu")]
    picks = sample_predictions(live, file, 20, EASY, seed=0).picks
    whole = compute_effect_vectors(live, file, chosen, picks, kept=5)
    monkeypatch.setattr("backend.prediction_clusters.effect_vectors.TOKENS_PER_PASS", 1)
    single = compute_effect_vectors(live, file, chosen, picks, kept=5)
    assert abs(whole.effects - single.effects).max() < 1e-5
    assert whole.offsets == {"top": 0, "relu": 120}
    assert (np.diff(whole.effects.indptr) <= 5).all()


def test_effects_have_the_sign_of_removals(live: LocalEngine, file: HarvestFile) -> None:
    """Where a removal moves the prediction at all, most estimates agree with it in sign."""
    one = live.dictionaries["relu"]
    picks = sample_predictions(live, file, 20, EASY, seed=0).picks[:2]
    made = compute_effect_vectors(live, file, [one], picks, kept=500)
    given = pad_prediction_prompts(live, file, picks)
    (reading,) = read_dictionary_activations(live.lm, [one], given.tokens, given.counted)
    n = len(reading.active.row)
    gone = ablate_active_features(
        live.lm,
        reading,
        torch.arange(n),
        torch.zeros(n),
        given.tokens,
        given.target.only,
        given.target.last,
    ).effect.numpy()
    summed = np.zeros(made.effects.shape)
    np.add.at(summed, (reading.active.row.numpy(), reading.active.feature.numpy()), gone)
    dense = np.asarray(made.effects.todense())
    assert np.corrcoef(summed[dense != 0], dense[dense != 0])[0, 1] > 0.5


def test_nothing_taken_away_changes_nothing(live: LocalEngine, file: HarvestFile) -> None:
    picks = sample_predictions(live, file, 20, EASY, seed=0).picks
    assert np.abs(measure_joint_ablation(live, file, picks, [])).max() < 1e-5
    assert (
        np.abs(
            measure_joint_ablation(live, file, picks, [FeatureId("relu", i) for i in range(30)])
        ).max()
        > 1e-3
    )


def test_the_whole_is_plain_data(live: LocalEngine, file: HarvestFile) -> None:
    plan = ClusterPlan(("top", "relu"), tokens=40, loss=EASY, clusters=3)
    found = find_clusters(live, file, plan)
    json.dumps(found, allow_nan=False)
    assert sum(one["n"] for one in found["clusters"]) + found["silent"] == found["picked"]
    for one in found["clusters"]:
        named = {FeatureId.parse(row["feature"]).dictionary for row in one["features"]}
        assert named <= {"top", "relu"}
        splits = [member["split"] for member in one["members"]]
        assert one["explain"] == splits.count("explain") or one["n"] > len(splits)
        if one["judged"]:
            assert one["judged"]["own"]["n"] == splits.count("score") or one["n"] > len(splits)


@pytest.mark.parametrize(
    "given", [{"tokens": 3}, {"loss": 0}, {"clusters": 1}, {"method": "guess"}, {"removed": 99}]
)
def test_plans_that_make_no_sense(given: dict) -> None:
    with pytest.raises(InputError):
        replace(ClusterPlan(), **given).check()


def test_a_plan_is_what_it_was_written_as() -> None:
    plan = ClusterPlan(("top",), seed=4)
    assert ClusterPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    with pytest.raises(InputError, match="not a cluster plan"):
        ClusterPlan.from_json({"what": 3})
