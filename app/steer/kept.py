"""A finished run in the catalog, and what it was run on."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from app import session
from app.experiments.keeping import keep
from backend.generation.steering_request import SteeringRequest
from feature_store.experiments import Experiment, Experiments
from feature_store.harvest_reader import HarvestFile

if TYPE_CHECKING:
    from app.steer.run import SteeringRun

KINDS = ("steer", "sweep", "examples", "contrast")
"""Kinds of experiments that this page opens."""


def experiments() -> Experiments:
    """The kept runs of this process's store."""
    return Experiments(session.store().catalog)


def keeper(file: HarvestFile) -> Callable[["SteeringRun"], str]:
    """A function that keeps a run of this harvest, for the run's own thread."""
    store = session.store()

    def kept(run: "SteeringRun") -> str:
        return keep(
            store,
            "steer",
            run.engine,
            harvest=file.record.id,
            dictionaries=run.asked.dictionaries,
            request=shortened(run.asked, run.story.n).to_json(),
            result=run.story.data,
        )

    return kept


def shortened(asked: SteeringRequest, tokens: int) -> SteeringRequest:
    """What gives these texts again: a run that was stopped is one that asked for fewer tokens."""
    n = min(asked.sampling.max_new, tokens)
    return replace(asked, sampling=replace(asked.sampling, max_new=n))


def other_weights(experiment: Experiment, file: HarvestFile) -> str:
    """A sentence when the harvest's weights are not those of the run; empty when they are."""
    now = {name: info.weights_hash for name, info in file.dictionaries.items()}
    changed = [name for name, h in experiment.dictionaries.items() if now.get(name) != h]
    if experiment.model_hash != file.record.model_hash:
        changed.insert(0, experiment.model)
    if not changed:
        return ""
    return f"Other weights than in this run: {', '.join(changed)}. Running it again will differ."
