"""The demo's background job: explain its features by patterns and score one dictionary."""

from pathlib import Path

from app.jobs import series, starting
from app.jobs.explaining import Explaining
from app.jobs.scoring import Scoring
from feature_store.jobs import Jobs
from feature_store.store import Store

SCORED = "resid-2"
"""The dictionary whose labels are scored; scoring all would take a quarter of an hour."""


def start(path: Path) -> None:
    """Start the job that explains every dictionary, unless the store has one already."""
    if Jobs(path).find_latest("series", {}):
        return
    file = Store(path).harvest()
    harvest = file.record.id
    first = sorted(file.dictionaries, key=lambda name: name != SCORED)
    explained = [Explaining(harvest, name, "all", ("pattern",)) for name in first]
    scored = Scoring(harvest, SCORED, "all", ("detection",))
    steps = [
        *(step("explain", one) for one in explained[:1]),
        step("score", scored),
        *(step("explain", one) for one in explained[1:]),
    ]
    starting.start(path, "series", series.arguments(steps), "labels by patterns, and their scores")


def step(kind: str, asked: Explaining | Scoring) -> series.Step:
    """Return one job of the series as its arguments."""
    return {"kind": kind, "arguments": asked.to_json(), "what": asked.what}
