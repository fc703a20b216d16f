"""What a scoring job's result says of the null dictionaries in the same harvest."""

from typing import Any

import numpy as np
import pyarrow.compute as pc

from autointerp.pipeline.null_dictionary_comparison import compare_with_null_dictionaries
from autointerp.pipeline.score_summary import ScoreSummary
from feature_store.null_dictionaries import find_null_dictionaries
from feature_store.store import Store

ABSENT = {"n": 0, "mean": None, "low": None, "high": None}


def compared(
    store: Store,
    harvest: str,
    dictionary: str,
    job: str,
    summary: ScoreSummary,
    explainer: str,
    scorer: str,
    bounds: tuple[float, float],
) -> dict[str, dict[str, Any]]:
    """Kind → its mean and what is better than it, on scores by the same explainer, scorer and
    judge on the same harvest. Where there is none, `missing` says what is to be done first:
    `explain` or `score`. Empty where the harvest has no null dictionary of this one."""
    names = find_null_dictionaries(store.harvest(harvest), dictionary)
    judge = judged_by(store, dictionary, scorer, job) if names else None
    found = {
        kind: values(store, harvest, name, explainer, scorer, judge) for kind, name in names.items()
    }
    there = {kind: own for kind, own in found.items() if len(own)}
    means = compare_with_null_dictionaries(summary.values(explainer, scorer), there, bounds)
    return {
        kind: {"dictionary": name}
        | (means.get(kind) or ABSENT | {"missing": missing(store, name, explainer)})
        for kind, name in names.items()
    }


def judged_by(store: Store, dictionary: str, scorer: str, job: str) -> str | None:
    """Who answered in this job; None where nothing was scored."""
    rows = store.catalog.snapshot().scores.of_dictionary(dictionary)
    mine = rows.filter((pc.field("scorer") == scorer) & (pc.field("job") == job))
    return mine["judge"][0].as_py() if len(mine) else None


def values(
    store: Store, harvest: str, dictionary: str, explainer: str, scorer: str, judge: str | None
) -> np.ndarray:
    """The scores of a dictionary's features by one explainer, scorer and judge, the newest
    explanation's of each feature; NaN where there is a score without a value."""
    snapshot = store.catalog.snapshot()
    of = snapshot.scorable.of_dictionary(dictionary)
    by = [one.explanation for one in of if one.explainer == explainer]
    rows = snapshot.scores.of_dictionary(dictionary).filter(
        (pc.field("scorer") == scorer)
        & (pc.field("judge") == judge)
        & (pc.field("harvest") == harvest)
        & pc.field("explanation").isin(by)
    )
    values = zip(*(rows[n].to_pylist() for n in ("explanation", "feature", "value")), strict=True)
    ordered = sorted(values, key=lambda row: row[0] < 0)  # the label in force is the last word
    newest = {feature: value for _, feature, value in ordered}
    return np.array([np.nan if value is None else value for value in newest.values()])


def missing(store: Store, dictionary: str, explainer: str) -> str:
    """The first command that brings a null dictionary's scores."""
    there = store.catalog.snapshot().scorable.explainers(dictionary)
    return "score" if explainer in there else "explain"
