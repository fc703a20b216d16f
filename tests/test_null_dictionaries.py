"""Untrained dictionaries beside the trained: they fire as often, hang on nothing but the harvest's
configuration, come back from disk, and stand in a score's summary."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from app.jobs import explaining, scoring
from app.jobs.explaining import Explaining
from app.jobs.scoring import Scoring
from autointerp.pipeline.null_dictionary_comparison import compare_with_null_dictionaries
from backend.dictionaries import load, null_dictionaries
from backend.engine import LocalEngine
from backend.harvest import harvest_nulls
from backend.harvest.harvest_plan import HarvestPlan
from backend.harvest.run import HarvestRequest, HarvestRun
from feature_store.errors import InputError
from feature_store.null_dictionaries import (
    NullTarget,
    find_null_dictionaries,
    find_null_target,
    parse_null_kinds,
)
from feature_store.statistics import Estimate, independent_difference, mean_over_features
from feature_store.store import Store
from tests import jobs as rules
from tests.dictionaries import CPU
from tests.harvests import Rig, harvest_on_disk
from tests.jobs import MANY, carry

PLAN = {"top": 20, "ranged": 40, "silent": 160, "window": 4}


@pytest.fixture(scope="module")
def store(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("nulls")
    rig.harvest(folder, nulls=("random", "pca", "neurons"), **PLAN)
    return Store(folder)


def activations(n: int, seed: int, d: int = 12) -> torch.Tensor:
    dice = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=dice) * torch.linspace(0.5, 3, d) + 1.5


def firings(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    centred = x - weights["mean"]
    return (centred @ weights["directions"].T > weights["threshold"]).sum(0)


@pytest.mark.parametrize("kind", list(null_dictionaries.NULL_BUILDERS))
def test_densities_are_the_dictionarys_on_the_sample_and_on_fresh_tokens(kind: str) -> None:
    counts = torch.tensor([0, 1, 7, 40, 200, 900, 1500, 1999, 2000, 30])
    weights = null_dictionaries.NULL_BUILDERS[kind](activations(2000, 0), counts, 3)
    wanted = counts if kind == "random" else firings(weights, activations(2000, 0))
    assert firings(weights, activations(2000, 0)).equal(wanted)
    assert set(wanted.tolist()) <= set(counts.tolist())
    p = (wanted.double() / 2000).clamp(1 / 2000, 1 - 1 / 2000)
    error = (p * (1 - p) * (1 / 2000 + 1 / 4000)).sqrt()  # of the sample and of the fresh tokens
    found = firings(weights, activations(4000, 1)).double() / 4000
    assert ((found - p).abs() <= 4 * error).all()


def test_equal_values_never_fire_more_often_than_wanted() -> None:
    values = torch.tensor([[2.0, 2.0], [2.0, 1.0], [2.0, 0.0], [1.0, 0.0]])
    found = null_dictionaries.find_thresholds(values, torch.tensor([2, 2]))
    assert (values > found).sum(0).tolist() == [0, 2]


def test_quantiles_of_the_live_features_densities_go_to_the_first_in_order() -> None:
    found = null_dictionaries.spread_firing_counts(
        torch.tensor([0, 10, 30, 20, 40]), torch.tensor([1, 0])
    )
    assert found.tolist() == [10, 30]
    assert null_dictionaries.spread_firing_counts(
        torch.zeros(3, dtype=torch.int64), torch.arange(2)
    ).tolist() == [0, 0]


def test_principal_components_are_orthonormal_and_two_sided() -> None:
    x = activations(500, 0)
    found = null_dictionaries.build_pca_null(x, torch.full((30,), 50), 0)["directions"]
    up, down = found[::2], found[1::2]
    assert down.equal(-up)
    assert torch.allclose(up @ up.T, torch.eye(12), atol=1e-5)
    spread = ((x - x.mean(0)) @ up.T).var(0)
    assert spread.equal(spread.sort(descending=True).values)


def test_a_seed_and_a_dictionary_have_their_own_directions() -> None:
    seeds = {
        null_dictionaries.derive_null_seed(*key)
        for key in [(0, "a", "random"), (1, "a", "random"), (0, "b", "pca")]
    }
    assert len(seeds) == 3
    x, counts = activations(100, 0), torch.tensor([5, 9])
    one, same, other = (
        null_dictionaries.draw_random_null(x, counts, s)["directions"] for s in (1, 1, 2)
    )
    assert one.equal(same) and not one.equal(other)


def test_a_harvest_says_whose_null_a_dictionary_is(store: Store) -> None:
    file = store.harvest()
    assert find_null_dictionaries(file, MANY) == {
        k: f"{MANY}~{k}" for k in ("random", "pca", "neurons")
    }
    info = file.dictionary(f"{MANY}~random")
    assert (
        find_null_target(info) == NullTarget("random", MANY)
        and find_null_target(file.dictionary(MANY)) is None
    )
    assert info.explained_variance is info.ce_clean is None and not info.signed
    assert info.hook_name == info.hook_out and info.d_sae == file.dictionary(MANY).d_sae
    assert file.dictionary(f"{MANY}~neurons").hook_name.endswith("mlp.hook_post")


def test_a_harvests_random_features_fire_as_often_as_the_trained(store: Store) -> None:
    file = store.harvest()
    of = "SELECT density FROM feature WHERE dictionary = ? ORDER BY feature"
    for name in ("top", "abs", "relu", "seq"):
        own, random = (file.rows(of, [d])["density"].to_numpy() for d in (name, f"{name}~random"))
        # The whole corpus is the sample here, so only equal values keep counts apart.
        more = (random - own) * file.record.tokens
        assert np.median(more) == pytest.approx(0) and more.max() <= 1.5, name
        assert more.min() >= -12, name
        assert np.corrcoef(own, random)[0, 1] > 0.999, name


def test_nothing_hangs_on_the_batches_and_it_comes_back_from_disk(
    store: Store, rig: Rig, tmp_path: Path
) -> None:
    rig.harvest(tmp_path, nulls=("pca", "random"), forward_batch=90, **PLAN)
    other, places = Store(tmp_path).harvest(), Store(tmp_path).places.read_all()
    for name in (f"{MANY}~random", "top~pca", "seq~random"):
        info = other.dictionary(name)
        assert info.weights_hash == store.harvest().dictionary(name).weights_hash
        again = load(places[info.weights_hash], placement=CPU)
        assert (again.name, again.weights_hash) == (name, info.weights_hash)
        assert again.source == info.source and again.d_sae == info.d_sae


def test_a_harvest_that_was_stopped_takes_up_the_same_nulls(rig: Rig, tmp_path: Path) -> None:
    steps = rig.start(tmp_path, nulls=("random",)).run()
    while next(steps).stage != "self-check":
        pass
    steps.close()  # type: ignore[attr-defined]
    (kept,) = (tmp_path / "nulls").glob("*/0-random/null.safetensors")
    before = kept.stat().st_mtime_ns
    rig.harvest(tmp_path, nulls=("random",))
    assert kept.stat().st_mtime_ns == before


def test_the_engine_reads_a_null_dictionary(tmp_path: Path) -> None:
    harvest_on_disk(tmp_path, tokens=600)
    request = HarvestRequest(
        str(tmp_path / "model"),
        [f"resid={tmp_path / 'resid'}"],
        [str(tmp_path / "text.txt")],
        tmp_path / "store",
        HarvestPlan(tokens=600, context_size=32, window=8),
        CPU,
        nulls=("random",),
    )
    harvest = HarvestRun(request)
    assert list(harvest.run()) and harvest.outcome == "published"
    kept = Store(tmp_path / "store")
    file = kept.harvest(harvest.id)
    engine = LocalEngine.load(file, kept.places.read_all(), CPU)
    sequence, name = file.sequences.flat[:32].astype(np.int64), "resid~random"
    live = engine.compute_activations(engine.text(sequence.tolist()), [name])[name]
    assert len(live.value) and (live.value > 0).all()
    active = file.rows("SELECT n_active FROM feature WHERE dictionary = ? ORDER BY feature", [name])
    assert (active["n_active"].to_numpy()[live.feature[live.position > 0]] > 0).all()


def test_what_cannot_be_is_told(rig: Rig, store: Store, tmp_path: Path) -> None:
    assert parse_null_kinds("pca, random,pca") == ("random", "pca") and parse_null_kinds("") == ()
    with pytest.raises(InputError, match="no null dictionary 'randon'. Did you mean 'random'"):
        parse_null_kinds("randon")
    with pytest.raises(InputError, match="--null needs a trained dictionary"):
        ground = harvest_nulls.NullInputs(rig.lm, None, None, 0)  # type: ignore[arg-type]
        harvest_nulls.load_or_make_nulls(
            ground,
            [load(f"identity:{rig.found[0].hook_name}", placement=CPU, width=rig.lm.width)],
            ("pca",),
            tmp_path,
            tmp_path,
        )
    (tmp_path / "null.json").write_text(json.dumps({"kind": "pca"}))
    (path,) = (store.path / "nulls").glob("*/0-pca/null.safetensors")
    (tmp_path / "null.safetensors").hardlink_to(path)
    with pytest.raises(InputError, match="is no null dictionary's"):
        load(str(tmp_path), placement=CPU)


def test_the_difference_of_two_dictionaries_is_what_resampling_both_gives() -> None:
    """And it covers, whatever the shape: scores pile up at their upper bound."""
    dice, hits = np.random.default_rng(3), 0
    for _ in range(300):
        groups = dice.beta(8, 2, 60), dice.beta(3, 3, 140)
        found = independent_difference(
            *(mean_over_features(values, seed=i) for i, values in enumerate(groups))
        )
        assert found.low is not None and found.high is not None and found.n == 60
        hits += found.low <= 0.3 <= found.high
    assert 0.92 <= hits / 300 <= 0.985
    draws = [g[dice.integers(len(g), size=(20_000, len(g)))].mean(1) for g in groups]
    low, high = np.quantile(draws[0] - draws[1], [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))
    assert (
        independent_difference(found, Estimate.too_few(3, 3, found=3, unit="features")).value
        is None
    )


def test_means_are_of_features_with_a_value() -> None:
    own, other = np.linspace(0.5, 0.9, 41), np.append(np.linspace(0.4, 0.6, 41), np.nan)
    (row,) = compare_with_null_dictionaries(own, {"pca": other}, (0.0, 1.0)).values()
    assert row["n"] == 41 and row["mean"] == pytest.approx(0.5)
    assert row["difference"]["mean"] == pytest.approx(0.2)
    assert row["difference"]["low"] < 0.2 < row["difference"]["high"]


def test_a_score_stands_beside_those_of_its_null_dictionaries(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explaining, "table", lambda: rules.EXPLAINERS)
    monkeypatch.setattr(scoring, "table", lambda: rules.SCORERS)

    def explain(name: str) -> None:
        given = explaining.checked(store, Explaining("", name, "all", ("word",)))
        carry(store, "explain", given.to_json(), explaining.do)

    def score(name: str) -> dict:
        given = scoring.checked(store, Scoring("", name, "all", ("by-hand",)))
        (row,) = carry(store, "score", given.to_json(), scoring.do)[1]["results"]
        return row

    random = f"{MANY}~random"
    explain(MANY)
    found = score(MANY)["null_dictionaries"]
    assert found["random"]["missing"] == "explain" and found["random"]["mean"] is None
    explain(random)
    assert score(MANY)["null_dictionaries"]["random"]["missing"] == "score"
    null_row = score(random)
    assert null_row["null_dictionaries"] == {}
    row = score(MANY)
    beside = row["null_dictionaries"]["random"]
    assert (beside["n"], beside["mean"]) == (null_row["n"], pytest.approx(null_row["mean"]))
    assert beside["difference"]["mean"] == pytest.approx(row["mean"] - null_row["mean"])
    assert row["null_dictionaries"]["pca"]["missing"] == "explain"
