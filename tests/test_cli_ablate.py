"""`saefari ablate`: the engine's numbers, kept in a store that is named, or a sentence."""

from pathlib import Path

import pytest

from feature_store.experiments import Experiments
from feature_store.store import Store
from tests.commands import World, answer, data, make_world, refusal

PROMPT = "the old cat saw a red ball and then the cat"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def store(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from app.cli import main

    path = tmp_path_factory.mktemp("store")
    assert main(world.harvest(path)) == 0
    return path


def words(world: World, *more: str) -> list[str]:
    return [
        "ablate",
        "--model",
        str(world.model),
        "--dictionary",
        str(world.path / "top"),
        "--prompt",
        PROMPT,
        *more,
    ]


def test_single_effects_and_joint(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--feature", "top/3", "--part", "mlp:1", "--answer", " took", "--wrong", " was"]
    found = data(words(world, *asked), capsys)
    change = found["ablated"]["logit_diff"] - found["clean"]["logit_diff"]
    assert found["joint"] == pytest.approx(change, abs=1e-5)
    assert [one["part"] for one in found["features"]] == ["top/3", "mlp:1"]
    assert len(found["kl"]) == len(PROMPT.split()) + 1 and found["clean"]["loss"] > 0
    assert found["dictionaries"].keys() == {"top"} and found["experiment"] is None
    shown = answer(words(world, *asked), capsys)
    assert "logit difference" in shown and "together" in shown


def test_a_run_is_kept_and_takes_means_from_the_harvest(
    world: World, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--feature", "top/3", "--mode", "mean", "--store", str(store)]
    found = data(words(world, *asked), capsys)
    kept = Experiments(Store(store).catalog).open(found["experiment"])
    assert kept.result["joint"] == found["joint"] and kept.request["how"] == "mean"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "Name at least one part"),
        (["--feature", "top/3", "--mode", "mean"], "is read from a harvest"),
        (["--feature", "top/3", "--mode", "burn"], "not a kind of ablation"),
        (["--feature", "top/3000"], "has features 0 to"),
        (["--feature", "other/3"], "No dictionary called 'other'"),
        (["--part", "head:9.9"], "layers 0 to 2"),
        (["--part", "mlp:1", "--answer", " saw a"], "is 2 tokens after this prompt"),
        (["--part", "mlp:1", "--mode", "pair", "--pair", "the"], "its partner 2"),
    ],
)
def test_mistakes(
    world: World, capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    assert says in refusal(words(world, *more), capsys)
