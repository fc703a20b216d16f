"""A run that is over lets go of its engine, or its model could never be dropped for another."""

import copy
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from app.ablate import runs as ablations
from app.circuits import measuring
from app.contrast import running as contrasts
from app.steer import run as steering_runs
from app.steer_more.task import Task
from app.steering import Setting
from backend.engine import LocalEngine
from backend.generation.records import SamplingSettings
from backend.generation.visitor_queue import VisitorQueue
from backend.interventions.records import Edit
from feature_store.errors import InputError
from feature_store.records import FeatureId
from tests.harvests import Rig

PROMPT = "the cat ran"
Begin = Callable[[LocalEngine, bool], tuple[Any, Callable[[], bool]]]
"""Begin a run that fails or not: what a session keeps of it, and whether it is over."""


def _use(engine: LocalEngine, fails: bool) -> dict[str, Any]:
    read = engine.read(PROMPT)
    if fails:
        raise InputError("It cannot be done.")
    return {"tokens": read.token_ids}


def _steer(engine: LocalEngine, fails: bool) -> tuple[Any, Callable[[], bool]]:
    edit = Edit("add", (FeatureId("relu", 99 if fails else 3),), 8.0)
    setting = Setting((edit,), PROMPT, SamplingSettings(max_new=2))
    run = steering_runs.SteeringRun(engine, setting, VisitorQueue().join(), lambda _: "")
    run.compute()
    assert bool(run.error) == fails
    return run, run.done.is_set


def _task(engine: LocalEngine, fails: bool) -> tuple[Any, Callable[[], bool]]:
    task = Task({}, lambda mine: _use(engine, fails), VisitorQueue().join())
    task.compute()
    assert bool(task.error) == fails
    return task, task.done.is_set


def _ablation(engine: LocalEngine, fails: bool) -> tuple[Any, Callable[[], bool]]:
    run = ablations.BackgroundRun(
        "harvest", {}, lambda tick: _use(engine, fails), ablations.RunAnswer, costly=False
    )
    return run, lambda: run.wait(0.1)


def _contrast(engine: LocalEngine, fails: bool) -> tuple[Any, Callable[[], bool]]:
    texts = ("the cat ran", "the dog ran", "the cat sat")
    groups = (("A", texts), ("B", () if fails else texts[::-1]))
    run = contrasts.ContrastRun(
        engine, contrasts.ContrastQuestion(groups, ("relu",), "document", "strength")
    )
    return run, lambda: run.wait(0.1)


def _measure(engine: LocalEngine, fails: bool) -> tuple[Any, Callable[[], bool]]:
    future = measuring._future(
        "circuit", "view", (str(fails),), engine, lambda: _use(engine, fails)
    )
    return future, future.done


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("begin", [_steer, _task, _ablation, _contrast, _measure])
def test_a_run_that_is_over_holds_no_engine(rig: Rig, begin: Begin, fails: bool) -> None:
    engine = copy.copy(LocalEngine(rig.lm, {d.name: d for d in rig.found}, bos=rig.lm.bos))
    lent = weakref.ref(engine)
    kept, over = begin(engine, fails)
    del engine
    until = time.monotonic() + 20
    while (not over() or lent() is not None) and time.monotonic() < until:
        time.sleep(0.01)
    assert over() and lent() is None, kept
