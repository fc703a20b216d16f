"""The benchmarks' pieces run, on a workload of two small layers."""

import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from backend.dictionaries import load
from benchmarks import encoding, harvesting, one_encode, one_harvest, one_payload, payload, peers
from benchmarks.goals import Goal
from benchmarks.workload import (
    TINY,
    K,
    Workload,
    balanced_biases,
    build,
    calibration_activations,
)
from tests.dictionaries import CPU


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    return build(tmp_path_factory.mktemp("workload"), TINY)


@pytest.fixture(scope="module")
def facts(work: Workload) -> dict:
    args = Namespace(
        model=str(work.model),
        dictionary=str(work.dictionary(128)),
        corpus="stdlib",
        tokens=3000,
        context=32,
        pack=True,
        store=work.root / "store",
    )
    return one_harvest.harvest(args)


def test_nearly_every_feature_of_the_workload_fires(work: Workload):
    dictionary = load(str(work.dictionary(256)), placement=CPU)
    triples = dictionary.encode_sparse(calibration_activations(work.model, TINY))
    assert len(triples.feature.unique()) >= 0.95 * 256
    assert len(triples.token) >= 0.95 * K * TINY.calibration


def test_biases_give_each_feature_its_share_of_the_tokens():
    torch.manual_seed(0)
    white, directions = torch.randn(2000, 8), torch.randn(2000, 8)
    density = (white @ directions.T + balanced_biases(white, directions) > 0).float().mean(0)
    assert density.sum() == pytest.approx(K, rel=0.1)
    assert density.max() > 10 * density.min()


def test_a_built_workload_is_used_again(work: Workload):
    before = (work.model / "model.safetensors").stat().st_mtime_ns
    build(work.root, TINY)
    assert (work.model / "model.safetensors").stat().st_mtime_ns == before


def test_a_goal_knows_its_direction():
    assert Goal("a", 1.0, 1.1).met and not Goal("a", 1.2, 1.1).met
    assert Goal("b", 1.2, 1.1, at_least=True).met
    assert "MISSED b" in str(Goal("b", 1.0, 1.1, at_least=True))


def test_stages_add_up_to_the_figures():
    cpu = {"forward": 2.0, "encode": 3.0, "sort": 1.0, "co-activation": 0.5, "write": 1.0}
    cpu |= {"logits": 9.0}
    found = harvesting.derived(
        {"cpu_s": cpu, "stage_wall_s": cpu, "nonzero": 1_000_000, "tokens": 75}
    )
    assert found["ratio"] == pytest.approx(7.5 / 5)
    assert found["once_s"] == 9.0
    assert found["us_per_nonzero"] == pytest.approx(1.0)
    assert found["us_per_nonzero_with_write"] == pytest.approx(2.0)
    assert found["tokens_per_cpu_s"] == pytest.approx(10)


def test_a_harvest_is_measured_and_reported(facts: dict):
    one = facts | {"name": "tiny", "bound": 1.1} | harvesting.derived(facts)
    assert facts["d_sae"] == 128 and facts["nonzero"] > 0.9 * K * facts["tokens"]
    assert "forward" in harvesting.report([one]) and len(harvesting.goals([one])) == 2


def test_a_payload_is_measured_and_reported(facts: dict):
    path = Path(facts["path"])
    args = Namespace(harvest=path, features=5, cold=0)
    found = {
        "warm": one_payload.warm(args),
        "cold": one_payload.cold(args),
        "cold_worst_ms": 1.0,
        **payload.sizes(path),
    }
    assert 0 < found["tokens"] < found["file"] / 2 and found["features"] == 128
    assert "cold" in payload.report(found) and len(payload.goals(found)) == 3


def test_forward_and_encode_equal_the_libraries(work: Workload):
    args = Namespace(
        model=str(work.model),
        dictionary=[str(work.dictionary(128)), str(work.dictionary(256))],
        hook=TINY.hook,
        layer=TINY.layer,
        context=TINY.context,
        rounds=4,
    )
    found = one_encode.measure(args)
    assert found["forward"]["apart"] < 1e-4
    assert "trunk" in encoding.report(found)
    kept = [g for g in encoding.goals(work, found) if "speed" not in g.name]
    assert len(kept) == 4 and all(goal.met for goal in kept)


def test_the_peer_gets_full_rows_and_is_extrapolated(facts: dict):
    rows = peers.full_rows(Path(facts["path"]))
    assert rows.shape[1] == 32 and len(set(rows[:, 0].tolist())) == 1
    assert torch.from_numpy(rows).max() < TINY.vocabulary
    assert peers.extrapolated({"cpu_s": [10.0, 2.0, 4.0], "features": 128}, 512) == 10 + 3 * 3


@pytest.mark.slow
def test_a_harvest_is_what_an_independent_recomputation_gives(real: Path) -> None:
    """By raw weights, plain transformers and numpy."""
    command = [sys.executable, "-m", "benchmarks.recompute_harvest", "--data", str(real)]
    done = subprocess.run([*command, "--tokens", "1500"], capture_output=True, text=True)
    assert not done.returncode, done.stderr[-2000:]
    found = re.findall(r"largest difference (\S+)", done.stdout)
    assert len(found) == 3 * 17 and all(float(worst) < 1e-4 for worst in found)
