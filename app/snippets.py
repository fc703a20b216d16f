"""A kept run as Python that does it again, without a page."""

import pprint
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.ablate.snippet import lines
from feature_store.errors import InputError
from feature_store.experiments import Experiment

WIDTH = 98
STEER = '''\
"""Saefari experiment {id}: the default and the steered text again."""

from backend.engine_from_weights import load_engine_from_weights
from backend.generation.generation_run import generate_texts
from backend.generation.records import SummaryRecord
from backend.generation.steering_request import SteeringRequest
from backend.model.device import choose_placement

{head}
engine = load_engine_from_weights(
    MODEL, DICTIONARIES, choose_placement({device!r}, {dtype!r}), hashes=HASHES
)
for record in generate_texts(engine.lm, engine.dictionaries, SteeringRequest.from_json(REQUEST)):
    if isinstance(record, SummaryRecord):
        print(f"{{record.row}}: {{record.text!r}}")
'''

SEARCH = '''\
"""Saefari experiment {id}: the same {kind} again."""

import json
from pathlib import Path

from app.steer_more.{module} import answer
from backend.engine import LocalEngine
from backend.model.device import choose_placement
from feature_store.store import Store

{request}
store = Store(Path({store!r}))
file = store.harvest({harvest!r})
engine = LocalEngine.load(file, store.places.read_all(), choose_placement({device!r}, {dtype!r}))
found = answer(engine, file, REQUEST)
print(json.dumps(found, indent=1))
'''
MODULES = {"sweep": "sweeping", "examples": "examples", "contrast": "direction"}


def as_python(experiment: Experiment, places: Mapping[str, str], store: Path) -> str:
    """The script. `places`: hash → where this machine has the weights; what it has not is named as
    it was called, for the reader to replace. `store`: for scripts that read a harvest.

    InputError for a kind of run that has no script.
    """
    if experiment.kind not in SCRIPTS:
        raise InputError(f"A run of the kind {experiment.kind} has no script: its JSON has it all.")
    return SCRIPTS[experiment.kind](experiment, places, store)


def steer(experiment: Experiment, places: Mapping[str, str], store: Path) -> str:
    """Of a steering run; it needs no store."""
    return STEER.format(
        id=experiment.id,
        head=head(experiment, places),
        device=experiment.versions.get("device"),
        dtype=experiment.versions.get("dtype"),
    )


def head(experiment: Experiment, places: Mapping[str, str]) -> str:
    """MODEL, DICTIONARIES, HASHES and REQUEST."""
    model = places.get(experiment.model_hash, experiment.model)
    weights = experiment.dictionaries
    return "\n".join(
        [
            f"MODEL = {model!r}",
            named("DICTIONARIES", {name: places.get(h, name) for name, h in weights.items()}),
            named("HASHES", {model: experiment.model_hash, **weights}),
            named("REQUEST", experiment.request),
        ]
    )


def named(name: str, value: Any) -> str:
    """An assignment, laid out for a reader."""
    text = pprint.pformat(value, width=WIDTH, sort_dicts=False)
    return f"{name} = {text}"


def ablate(experiment: Experiment, places: Mapping[str, str], store: Path) -> str:
    """Of an ablation, a ranking or a splice: means may come from the harvest."""
    return lines(store, experiment.harvest, experiment.kind, experiment.request)


def search(experiment: Experiment, places: Mapping[str, str], store: Path) -> str:
    """Of a sweep, a search for examples or a contrast: features are looked up in the harvest."""
    request = {k: v for k, v in experiment.request.items() if k != "judge"}
    return SEARCH.format(
        id=experiment.id,
        kind=experiment.kind,
        module=MODULES[experiment.kind],
        request=named("REQUEST", request),
        store=str(store),
        harvest=experiment.harvest,
        device=experiment.versions.get("device"),
        dtype=experiment.versions.get("dtype"),
    )


SCRIPTS: dict[str, Callable[[Experiment, Mapping[str, str], Path], str]] = {
    "steer": steer,
    **dict.fromkeys(("ablate", "effects", "splice"), ablate),
    **dict.fromkeys(MODULES, search),
}
