"""What pages offer to explain and score with, and how their jobs begin."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from app import session
from app.jobs import asking, explaining, scoring, starting
from app.jobs.explaining import Explaining
from app.jobs.scoring import Scoring
from autointerp.pipeline.cost_estimate import CostEstimate
from autointerp.scorers.scorer_interface import LLM_JUDGE, PATTERN_JUDGE
from feature_store.jobs import Job
from feature_store.permissions import require_costly_work_allowed
from feature_store.store import Store

Given = Explaining | Scoring
KINDS = ("explain", "score")
USUAL = {PATTERN_JUDGE: ("detection", "fuzzing", "simulation"), LLM_JUDGE: ("detection",)}
"""Scorers that are chosen where nobody chose."""


def explainers() -> dict[str, str]:
    """Name → help; the one that asks nobody comes first."""
    return {
        name: one.help for name, one in explaining.table().items() if "sources" not in one.needs
    }


def scorers(judge: str) -> dict[str, str]:
    """Name → help of those that this judge can answer, or that need none."""
    return {
        name: one.help
        for name, one in scoring.table().items()
        if not one.judges or judge in one.judges
    }


def asks(given: Given) -> bool:
    """Whether a language model is asked."""
    if isinstance(given, Explaining):
        return "server" in explaining.needs(given.explainers)
    return scoring.asks(given.scorers, given.judge)


def checked(store: Store, given: Given) -> Given:
    """As a job takes it; InputError for what cannot be."""
    if isinstance(given, Explaining):
        return explaining.checked(store, given)
    return scoring.checked(store, given)


def start(given: Given, found: CostEstimate | None = None, *, trial: bool = False) -> Job:
    """Begin the job. InputError where it cannot be, or may not.

    `found`: what it was estimated to take. A `trial` asks a few of its questions and stops; their
    replies are kept.
    """
    require_costly_work_allowed()
    store = session.store()
    ready = checked(store, given)
    return starting.start(
        store.path, kind_of(ready), ready.to_json(), ready.what, before=prepare(found, trial=trial)
    )


def kind_of(given: Given) -> str:
    """The kind of its job."""
    return "explain" if isinstance(given, Explaining) else "score"


def prepare(found: CostEstimate | None, *, trial: bool) -> Callable[[Job], None]:
    """Return what is put into the job's folder before its process begins."""

    def put(job: Job) -> None:
        if found is not None:
            asking.keep_estimate(job, found)
        if trial:
            asking.wish_trial(job)

    return put


def estimate(given: Given) -> CostEstimate:
    """What a job would ask and cost; asks nobody, takes a second or so."""
    store = session.store()
    ready = checked(store, given)
    if isinstance(ready, Explaining):
        return explaining.estimate(store, ready)
    return scoring.estimate(store, ready)


def failed_of(job: Job) -> int:
    """How much of an ended job was not answered."""
    rows = job.result.get("results", [])
    return sum(int(row.get("failed", 0)) for row in rows)


def retry(job: Job) -> Job:
    """Begin a job for the features of which another had no usable answer."""
    read: Any = Explaining if job.kind == "explain" else Scoring
    given = read.from_json(job.arguments)
    again = replace(given.asking, again=True) if given.asking != asking.Asking() else given.asking
    return start(replace(given, features=f"failed:{job.id}", asking=again))
