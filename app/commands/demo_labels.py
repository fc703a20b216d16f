"""Labels and scores of the demo's features, by patterns, while the pages are open already."""

from pathlib import Path

from app.jobs import series, starting
from app.jobs.explaining import Explaining
from app.jobs.scoring import Scoring
from feature_store.jobs import Jobs
from feature_store.store import Store

SCORED = "resid-2"
"""The dictionary whose labels are scored, too: all would take a quarter of an hour."""


def start(path: Path) -> None:
    """Begin to explain every dictionary; nothing where that was begun before."""
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
    """One job of the series."""
    return {"kind": kind, "arguments": asked.to_json(), "what": asked.what}
