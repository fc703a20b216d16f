"""A sweep, a search for examples and a contrast, done again from what was kept of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.experiments import again
from app.experiments.again import ANSWERS
from app.experiments.keeping import keep
from app.snippets import as_python
from app.steer_more import sweeping
from app.steer_more.sweeping import Sweep
from backend.engine import LocalEngine
from backend.generation.records import SamplingSettings
from backend.generation.steering_request import SteeringRequest
from backend.interventions.records import Edit
from backend.model.device import choose_placement
from feature_store.experiments import Experiment, Experiments
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.kept import filled

ASKED = SteeringRequest(
    "the cat", (Edit("add", (FeatureId("top", 1),), 2.0),), SamplingSettings(max_new=3)
)
PLAIN = {**ASKED.to_json(), "edits": []}
REQUESTS: dict[str, dict[str, Any]] = {
    "sweep": sweeping.request(ASKED, Sweep((0.0, 2.0), seeds=2, concept="top/1", controls=())),
    "examples": {
        **PLAIN,
        "examples": {
            "texts": ["dog sat", "dog ran"],
            "dictionaries": ["top"],
            "m": 2,
            "penalty": 0.1,
        },
    },
    "contrast": {
        **PLAIN,
        "contrast": {"dictionary": "top", "m": 2, "toward": ["dog"], "away from": ["the cat"]},
    },
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(filled(tmp_path_factory.mktemp("kept")))


@pytest.fixture(scope="module")
def engine(store: Store) -> Iterator[LocalEngine]:
    (file,) = store.harvests()
    yield LocalEngine.load(file, store.places.read_all(), choose_placement("cpu"))


@pytest.fixture(scope="module", params=list(REQUESTS))
def kept(request: pytest.FixtureRequest, store: Store, engine: LocalEngine) -> Experiment:
    kind, (file,) = request.param, store.harvests()
    found = ANSWERS[kind](engine, file, REQUESTS[kind])
    name = keep(
        store,
        kind,
        engine,
        harvest=file.record.id,
        dictionaries={"top"},
        request=REQUESTS[kind],
        result=found,
    )
    return Experiments(store.catalog).open(name)


def verdict(kept: Experiment, engine: LocalEngine, store: Store) -> again.Verdict:
    run = again.begin(kept, engine, store.harvest(kept.harvest))
    while not run.over():
        assert run.said()
    return run.verdict()


def test_it_comes_out_the_same(kept: Experiment, engine: LocalEngine, store: Store) -> None:
    same, said = verdict(kept, engine, store)
    assert same, said


def test_its_script_prints_the_same(
    kept: Experiment, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    script = as_python(kept, store.places.read_all(), store.path)
    exec(compile(script, "snippet", "exec"), {"__name__": "__main__"})
    second = json.loads(capsys.readouterr().out)
    assert again.measured_again(kept.result, second)[0]


def test_a_judge_is_not_asked_again(store: Store, engine: LocalEngine) -> None:
    """Of a judged sweep the sweep is done again; what the judge said is no part of it."""
    (file,) = store.harvests()
    found: Any = sweeping.answer(engine, file, REQUESTS["sweep"])
    first = found["doses"][0]["heard"][0]
    first["values"] = {**first["values"], "judge": 1.5}
    found["judge"] = {"texts": 1, "failed": {}}
    request = {**REQUESTS["sweep"], "judge": {"model": "m", "concept": "dogs"}}
    name = keep(
        store,
        "sweep",
        engine,
        harvest=file.record.id,
        dictionaries={"top"},
        request=request,
        result=found,
    )
    judged = Experiments(store.catalog).open(name)
    assert verdict(judged, engine, store)[0]
    assert "dogs" not in as_python(judged, {}, Path("s"))
