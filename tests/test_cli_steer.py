"""`saefari steer`: both texts, the same as a page's, and what it refuses."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.cli import main
from app.commands.steer import plain
from backend.engine import LocalEngine
from backend.generation.generation_run import generate_texts
from backend.generation.records import SummaryRecord
from backend.generation.steering_request import SteeringRequest
from backend.model.device import choose_placement
from feature_store.experiments import Experiments
from feature_store.store import Store
from tests.commands import World, answer, data, make_world, refusal

Capture = pytest.CaptureFixture[str]
PROMPT = "the cat saw the dog and"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def filled(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a harvest of `top`; read only."""
    store = tmp_path_factory.mktemp("filled") / "store"
    assert main(world.harvest(store, tokens=2000)) == 0
    return store


def words(world: World, *more: str, **changes: object) -> list[str]:
    """A steering; `changes` replace options, None drops one."""
    options = {
        "model": world.model,
        "dictionary": world.path / "top",
        "feature": "top/3",
        "strength": 6,
        "prompt": PROMPT,
        "max-new": 8,
        "seed": 5,
        **changes,
    }
    given = [w for k, v in options.items() if v is not None for w in (f"--{k}", str(v))]
    return ["steer", *given, *more]


def loudest(store: Path) -> str:
    """The feature of `top` that fires most."""
    file = Store(store).harvest()
    facts = [file.facts(file.check_feature(f)) for f in features("top", 48)]
    return f"top/{max(facts, key=lambda one: one.n_active).feature}"


def features(name: str, n: int):
    from feature_store.records import FeatureId

    return [FeatureId(name, i) for i in range(n)]


def test_both_texts_and_the_kl_of_each_token(world: World, capsys: Capture) -> None:
    found = data(words(world), capsys)
    assert found["default"] != found["steered"]
    assert len(found["kl"]) == 8 and min(found["kl"]) >= 0 < max(found["kl"])
    assert found["rails"]["steered"]["shift"] > 0 == found["rails"]["default"]["shift"]
    assert found["request"]["sampling"]["seed"] == 5 and found["experiment"] is None
    assert data(words(world), capsys)["steered"] == found["steered"]
    other = data(words(world, seed=6), capsys)
    assert (other["default"], other["steered"]) != (found["default"], found["steered"])


def test_for_the_eye(world: World, capsys: Capture) -> None:
    said = data(words(world), capsys)
    shown = answer(words(world), capsys)
    assert said["default"] in shown and said["steered"] in shown
    assert "KL" in shown and "nats/token" in shown
    assert plain("a\x1b[31mb\nc") == "a�[31mb\nc"


def test_where(world: World, capsys: Capture) -> None:
    shifts = {
        name: data(words(world, **{name: value}), capsys)["result"]["rows"]["steered"]["shift"]
        for name, value in {"where": "generated", "positions": "1,3", "pattern": "cat"}.items()
    }
    moved = {name: [i for i, s in enumerate(row) if s] for name, row in shifts.items()}
    assert moved["where"][0] == 7 and moved["positions"] == [1, 3] and 2 in moved["pattern"]
    every = data(words(world, positions="all"), capsys)["result"]["rows"]["steered"]["shift"]
    assert all(every)


def test_a_kept_run_is_the_same_on_a_page(
    world: World, filled: Path, tmp_path: Path, capsys: Capture
) -> None:
    store = Path(shutil.copytree(filled, tmp_path / "store"))
    feature = loudest(store)
    found = data(words(world, store=store, mode="add_max", feature=feature), capsys)
    assert "harvest" in found["request"]["edits"][0]["basis"]["source"]
    opened = Store(store)
    kept = Experiments(opened.catalog).open(found["experiment"])
    file = opened.harvest(kept.harvest)
    live = LocalEngine.load(file, opened.places.read_all(), choose_placement("cpu"))
    records = generate_texts(live.lm, live.dictionaries, SteeringRequest.from_json(kept.request))
    texts = {one.row: one.text for one in records if isinstance(one, SummaryRecord)}
    assert texts == {"default": found["default"], "steered": found["steered"]}
    assert kept.model_hash == live.lm.model_hash and list(kept.dictionaries) == ["top"]


def test_a_store_that_cannot_be_written_still_serves(
    world: World, filled: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("feature_store.store.os", SimpleNamespace(access=lambda *_: False, W_OK=2))
    assert main([*words(world, store=filled, mode="mean"), "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["experiment"] is None
    assert shown.err.startswith("Not saved: ") and "read-only" in shown.err


def test_weights_that_no_harvest_has(
    world: World, filled: Path, tmp_path: Path, capsys: Capture
) -> None:
    renamed = f"other={world.path / 'top'}"
    given = {"dictionary": renamed, "feature": "other/3", "store": filled}
    said = refusal(words(world, **given, mode="add_max"), capsys)
    assert "no harvest of this model with other" in said
    assert main(words(world, **given)) == 0
    assert "Not saved: the store has no harvest" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mode": "clmap"}, "Did you mean 'clamp'"),
        ({"mode": "add_max"}, "give a store that has one (--store), or choose add"),
        ({"mode": "mean"}, "or choose zero"),
        ({"mode": "attenuate"}, "from Python, or choose one of"),
        ({"mode": "swap"}, "swap takes two features, not 1"),
        ({"feature": "top/99"}, "top has features 0 to 47, no 99"),
        ({"feature": "tip/3"}, "No dictionary called 'tip'. Did you mean 'top'"),
        ({"feature": "3"}, "is not a feature"),
        ({"strength": "nan"}, "must be a finite number"),
        ({"strength": "1e38"}, "choose a smaller one"),
        ({"prompt": ""}, "--prompt is empty"),
        ({"prompt": "the cat " * 30}, "Cut it"),
        ({"max-new": 0}, "must be 1 or more"),
        ({"temperature": -1}, "must be at least 0"),
        ({"where": "promt"}, "Did you mean 'prompt'"),
        ({"positions": "1,x"}, "numbers such as 0,3,4"),
        ({"pattern": "("}, "not a regular expression"),
        ({"store": "nowhere"}, "There is no store at nowhere"),
    ],
)
def test_refusals(world: World, changes: dict, says: str, capsys: Capture) -> None:
    assert says in refusal(words(world, **changes), capsys)
