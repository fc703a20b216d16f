"""A finished run in the catalog, and taken away: as JSON, as Python."""

import json
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from app import session
from app.steering import Setting
from feature_store.experiments import Experiment, Experiments
from feature_store.reader import HarvestFile

if TYPE_CHECKING:
    from app.steer.run import Run

PACKAGES = ("saefari", "torch", "transformers", "transformer-lens", "sae-lens")
KINDS = ("steer", "sweep", "examples", "contrast")
"""Kinds of experiments that this page opens."""


def experiments() -> Experiments:
    """The kept runs of this process's store."""
    return Experiments(session.store().catalog)


def keeper(file: HarvestFile, found: Experiments):
    """A function that keeps a run of this harvest, for the run's own thread."""

    def keep(run: "Run") -> str:
        return found.keep(
            "steer",
            request=request(run.setting, run.story.n, bos=run.engine.bos is not None),
            result=run.story.data,
            **weights(file, run.setting),
        )

    return keep


def request(setting: Setting, tokens: int, *, bos: bool) -> dict[str, Any]:
    """What it takes to run it again. A run that was stopped is one that asked for fewer tokens."""
    asked = min(setting.sampling.max_new, tokens)
    shorter = replace(setting, sampling=replace(setting.sampling, max_new=asked))
    return {**shorter.to_json(), "bos": bos}


def weights(file: HarvestFile, setting: Setting) -> dict[str, Any]:
    """Which model and dictionaries, by their hashes, and the versions of what computes."""
    gates = [edit.where.gate for edit in setting.edits if edit.where.gate]
    names = sorted({feature.dictionary for feature in (*setting.watched, *gates)})
    return {
        "harvest": file.record.id,
        "model": file.record.model,
        "model_hash": file.record.model_hash,
        "dictionaries": {name: file.dictionary(name).weights_hash for name in names},
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of the packages that numbers depend on, as far as they are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def other_weights(experiment: Experiment, file: HarvestFile) -> str:
    """A sentence when the harvest's weights are not those of the run; empty when they are."""
    now = {name: info.weights_hash for name, info in file.dictionaries.items()}
    changed = [name for name, h in experiment.dictionaries.items() if now.get(name) != h]
    if experiment.model_hash != file.record.model_hash:
        changed.insert(0, experiment.model)
    if not changed:
        return ""
    return f"Other weights than in this run: {', '.join(changed)}. Running it again will differ."


def as_json(experiment: Experiment) -> str:
    """The whole run, for a file."""
    plain = {
        "saefari": "experiment",
        "id": experiment.id, "kind": experiment.kind, "created": experiment.created.isoformat(),
        "note": experiment.note, "harvest": experiment.harvest, "model": experiment.model,
        "model_hash": experiment.model_hash, "dictionaries": dict(experiment.dictionaries),
        "versions": dict(experiment.versions), "request": dict(experiment.request),
        "result": dict(experiment.result),
    }  # fmt: skip
    return json.dumps(plain, ensure_ascii=False, indent=1)


SNIPPET = '''\
"""Run a kept Saefari experiment again: {id}."""

import json
from pathlib import Path

from backend.device import choose_placement
from backend.engine import LocalEngine
from backend.generation.prompts import chat, plain
from backend.generation.records import Row, Sampling, Summary
from backend.generation.stream import generate
from backend.interventions.records import Edit
from feature_store.store import Store

STORE = "my-store"  # the folder of the store
REQUEST = json.loads({request})

store = Store(Path(STORE))
file = store.harvest({harvest})
engine = LocalEngine.load(file, store.places.known(), choose_placement())
prompt = REQUEST["prompt"]
if isinstance(prompt, str):
    start = plain(engine.lm, prompt, bos=REQUEST["bos"])
else:
    start = chat(engine.lm, prompt)
edits = tuple(Edit.from_json(edit) for edit in REQUEST["edits"])
rows = [Row("default"), *([Row("steered", edits)] if edits else [])]
sampling = Sampling(**{{**REQUEST["sampling"], "stop": tuple(REQUEST["sampling"]["stop"])}})
for record in generate(engine.lm, engine.dictionaries, start, rows, sampling):
    if isinstance(record, Summary):
        print(record.row, json.dumps(record.text), "KL", record.mean_kl, "nats/token")
'''


def as_python(experiment: Experiment) -> str:
    """A script that gives the texts again, with the store at hand."""
    asked = json.dumps(experiment.request, ensure_ascii=True, sort_keys=True)
    return SNIPPET.format(id=experiment.id, request=repr(asked), harvest=repr(experiment.harvest))
