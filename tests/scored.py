"""A hand-made store in which features are explained and scored by hand."""

from pathlib import Path

import numpy as np

from feature_store import explanation_edits, score_storage
from feature_store.explanation_edits import NewExplanation
from feature_store.records import FeatureId
from feature_store.score_storage import NewScore
from feature_store.store import Store
from tests.stores import DEAD, make_store

NAME = "resid"
FEATURES = [i for i in range(30) if i != DEAD]
"""Those that are explained."""
SCORERS = {"detection": "balanced accuracy", "simulation": "correlation"}


def estimate(value: float | None, note: str = "") -> dict:
    ends = (None, None) if value is None else (value - 0.1, value + 0.1)
    return {
        "value": value,
        "low": ends[0],
        "high": ends[1],
        "n": 25,
        "n_documents": 24,
        "note": note,
    }


def value_of(feature: int) -> float:
    """The detection score of a feature's sentence: rising with its number."""
    return round(0.5 + feature / 100, 3)


def explained(store: Store, explainer: str = "pattern", text: str = "fires on {}") -> list[int]:
    rows = [
        NewExplanation(
            FeatureId(NAME, i),
            text.format(i),
            explainer,
            provenance={"source": "saefari", "shown": [[0, 1], [2, 3]]},
        )
        for i in FEATURES
    ]
    return explanation_edits.save_explanations(store.catalog, rows)


def row(number: int, feature: int, scorer: str, value: float | None, **changes) -> NewScore:
    note = "too few judgements: 3, and 20 are needed" if value is None else ""
    nulls = {
        "borrowed": estimate(0.5) | {"label": "cats", "failed": 0},
        "token": estimate(0.55) | {"label": "dogs", "failed": 0},
    }
    given = {
        "judge": "pattern",
        "nulls": nulls,
        "judged": [],
        "failed": 0,
        "parts": {"hard": estimate(0.6)},
        **changes,
    }
    return NewScore(
        number,
        FeatureId(NAME, feature),
        scorer,
        SCORERS.get(scorer, "share right"),
        estimate=estimate(value, note),
        detail={},
        harvest="tiny-0001",
        job="score-1",
        **given,
    )


def scored_store(path: Path) -> Store:
    """Features 0 to 29 of `resid` by two explainers and two scorers; feature 3 has no value."""
    store = make_store(path)
    for explainer, worse in (("pattern", 0.0), ("other", 0.05)):
        numbers = explained(store, explainer)
        rows = []
        for number, feature in zip(numbers, FEATURES, strict=True):
            value = None if feature == 3 else value_of(feature) - worse
            rows.append(row(number, feature, "detection", value))
            rows.append(row(number, feature, "simulation", float(np.cos(feature)) / 2))
        score_storage.save_scores(store.catalog, rows)
    return store
