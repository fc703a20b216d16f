"""Doing a kept run again: on which weights, in which thread, and what came out."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from app.ablate import runs as ablations
from app.ablate.snippet import form_of
from app.experiments.pair import measured_again, repeated
from app.steer import run as steering_runs
from app.steer_more import direction, examples, judging, sweeping, task
from app.steering import Setting
from backend.engine_protocol import Engine
from feature_store.errors import InputError
from feature_store.experiments import Experiment
from feature_store.harvest_reader import HarvestFile
from feature_store.store import Store

Verdict = tuple[bool, list[str]]
"""Whether the same came out, and how so in sentences."""


class Again(Protocol):
    """A run on its way for the second time."""

    def over(self) -> bool:
        """Whether it has ended. To be asked now and then: who is not asked for is let go."""
        ...

    def said(self) -> str:
        """How far it is."""
        ...

    def verdict(self) -> Verdict:
        """Once it is over; InputError for what went wrong."""
        ...

    def stop(self) -> None:
        """End it soon."""
        ...


class Spoken:
    """A steering run, through the visitors' queue like any other."""

    def __init__(self, experiment: Experiment, engine: Engine) -> None:
        self._then = experiment.result
        setting = Setting.from_json(experiment.request)
        self._run = steering_runs.begin(engine, setting, lambda _: "")

    def over(self) -> bool:
        """See `Again`."""
        self._run.ticket.touch()
        return self._run.done.is_set()

    def said(self) -> str:
        """See `Again`."""
        return self._run.said(self._run.done.is_set())

    def verdict(self) -> Verdict:
        """See `Again`."""
        if self._run.error:
            raise InputError(self._run.error)
        ends = [row["end"] for row in self._run.story.data["rows"].values()]
        if not all(ends) or any(end["reason"] in ("stopped", "time") for end in ends):
            raise InputError("The run was stopped before its texts were whole.")
        return repeated(self._then, self._run.story.data)

    def stop(self) -> None:
        """See `Again`."""
        self._run.stop()


class Measured:
    """An ablation, a ranking or a splice."""

    def __init__(self, experiment: Experiment, engine: Engine, file: HarvestFile) -> None:
        self._then = experiment.result
        form, request = form_of(experiment.kind, experiment.request), dict(experiment.request)
        if form == "dataset":
            raise InputError("An ablation over a data set runs as a job: open it and run it there.")

        def work(tick: Any) -> dict[str, Any]:
            from app.ablating import run

            return run(engine, file, form, request, tick)

        def kept(request: Mapping[str, Any], result: Mapping[str, Any]) -> ablations.RunAnswer:
            return ablations.RunAnswer(request, result)

        self._run = ablations.BackgroundRun(
            file.record.id, request, work, kept, costly=experiment.kind != "ablate"
        )

    def over(self) -> bool:
        """See `Again`."""
        return self._run.wait(0)

    def said(self) -> str:
        """See `Again`."""
        total = self._run.total
        return f"pass {self._run.done} of {total}" if total else "waiting for the model"

    def verdict(self) -> Verdict:
        """See `Again`."""
        found = self._run.answer()
        if found is None:
            raise InputError("The run was stopped before it had an answer.")
        return measured_again(self._then, found.result)

    def stop(self) -> None:
        """See `Again`."""
        self._run.cancel()


class Searched:
    """A sweep, a search for examples, or a contrast, through the queue. What a language model
    said of a sweep is not asked again."""

    def __init__(self, experiment: Experiment, engine: Engine, file: HarvestFile) -> None:
        answer = ANSWERS[experiment.kind]
        self._then = judging.unjudged(experiment.result)
        request = judging.base(experiment.request)

        def work(mine: task.Task) -> task.Plain | None:
            return answer(engine, file, request, mine.tell, mine.ticket.stop)

        self._task = task.start("again", request, work)

    def over(self) -> bool:
        """See `Again`."""
        self._task.ticket.touch()
        return self._task.done.is_set()

    def said(self) -> str:
        """See `Again`."""
        return self._task.said

    def verdict(self) -> Verdict:
        """See `Again`."""
        if self._task.error:
            raise InputError(self._task.error)
        if self._task.result is None:
            raise InputError("The run was stopped before it had an answer.")
        return measured_again(self._then, self._task.result)

    def stop(self) -> None:
        """See `Again`."""
        self._task.ticket.stop.set()


ANSWERS: dict[str, Callable[..., Any]] = {
    "sweep": sweeping.answer,
    "examples": examples.answer,
    "contrast": direction.answer,
}


def begin(experiment: Experiment, engine: Engine, file: HarvestFile) -> Again:
    """Start it; InputError for what cannot be, and for kinds that only their own page runs."""
    if experiment.kind == "steer":
        return Spoken(experiment, engine)
    if experiment.kind in ("ablate", "effects", "splice"):
        return Measured(experiment, engine, file)
    if experiment.kind in ANSWERS:
        return Searched(experiment, engine, file)
    raise InputError(f"A run of the kind {experiment.kind} is done again on its own page: open it.")


def harvest_of(store: Store, experiment: Experiment) -> HarvestFile | None:
    """A harvest with the run's very weights: its own, if it is here, else the newest."""
    weights = experiment.model_hash, experiment.dictionaries
    fitting = [file for file in store.harvests() if file.has_weights(*weights)]
    own = [file for file in fitting if file.record.id == experiment.harvest]
    return next(iter([*own, *fitting]), None)


def hindrance(store: Store, experiment: Experiment) -> str:
    """Why this machine cannot do the run again, in a sentence; empty where it can."""
    names = ", ".join([f"model {experiment.model}", *experiment.dictionaries])
    if harvest_of(store, experiment) is None:
        return (
            f"No harvest in this store has the weights of this run ({names}): below is what was "
            "kept. To run it again, harvest with them, or use its Python."
        )
    places = store.places.read_all()
    hashes = {f"model {experiment.model}": experiment.model_hash, **experiment.dictionaries}
    lost = [name for name, weights in hashes.items() if weights not in places]
    if not lost:
        return ""
    return (
        f"This machine does not know where the weights of {', '.join(lost)} lie: below is what was "
        "kept. To run it again, harvest with them here once."
    )
