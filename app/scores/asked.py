"""What pages offer to explain and score with, and how their jobs begin."""

from dataclasses import replace
from typing import Any

from app import session
from app.jobs import asking, explaining, scoring, starting
from app.jobs.explaining import Explaining
from app.jobs.scoring import Scoring
from app.wording import count, plural
from autointerp.jobs.estimate import Estimate
from autointerp.scorers.records import LLM, PATTERN
from feature_store.jobs import Job
from feature_store.permissions import require_costly_work_allowed
from feature_store.store import Store

Given = Explaining | Scoring
KINDS = ("explain", "score")
USUAL = {PATTERN: ("detection", "fuzzing", "simulation"), LLM: ("detection",)}
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


def start(given: Given) -> Job:
    """Begin the job. InputError where it cannot be, or may not."""
    require_costly_work_allowed()
    store = session.store()
    ready = checked(store, given)
    kind = "explain" if isinstance(ready, Explaining) else "score"
    return starting.start(store.path, kind, ready.to_json(), ready.what)


def estimate(given: Given) -> Estimate:
    """What a job would ask and cost; asks nobody, takes a second or so."""
    store = session.store()
    ready = checked(store, given)
    if isinstance(ready, Explaining):
        return explaining.estimate(store, ready)
    return scoring.estimate(store, ready)


def said(found: Estimate) -> str:
    """An estimate as a sentence."""
    if not found.calls:
        return f"{plural(round(found.features), 'feature')}; nobody is asked, so it costs nothing."
    tokens = f"{count(about(found.tokens_in + found.tokens_out))} tokens"
    cost = "cost not known (no price for this model)" if found.cost is None else money(found.cost)
    how = "as its server counted before" if found.learned else "by rules of thumb"
    return (
        f"About {plural(about(found.calls), 'call')} and {tokens} for "
        f"{plural(round(found.features), 'feature')}: {cost}. Worked out on "
        f"{plural(found.sampled, 'feature')}, tokens counted {how}."
    )


def about(n: float) -> int:
    """Three digits: an estimate deserves no more."""
    return int(float(f"{n:.3g}"))


def money(cost: float) -> str:
    """Dollars, and that nothing is nothing."""
    return "free" if cost == 0 else f"${cost:,.4f}" if cost < 1 else f"${cost:,.2f}"


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
