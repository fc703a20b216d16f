"""A dictionary's scores beside those of its null dictionaries: directions that nobody trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.scores import means, read, tables, words
from app.scores.means import Line
from app.scores.read import Series
from app.wording import count
from autointerp.statistics import Estimate
from feature_store.annotations import Annotations
from feature_store.null_dictionaries import nulls_of
from feature_store.reader import HarvestFile

HEADS: tuple[tables.Column, ...] = (
    ("null dictionary", "", "untrained directions of the same harvest, explained and scored alike"),
    ("explainer", "", ""),
    ("score", "", ""),
    ("features", "number", "of the null dictionary, with a value"),
    ("its mean [95 %]", "number", "over its features"),
    ("this dictionary above it", "number", "difference of the means, 95 %; features differ, so "
     "nothing is paired"),
)  # fmt: skip


@dataclass(frozen=True)
class Beside:
    """One series against the same of a null dictionary."""

    null: str
    series: Series
    mean: Estimate | None
    """None: the null dictionary has no such scores."""
    above: Estimate | None


def beside(
    file: HarvestFile, dictionary: str, said: Annotations, lines: Sequence[Line]
) -> list[Beside]:
    """Every series against every null dictionary; empty where the harvest has none."""
    found = []
    for name in nulls_of(file, dictionary).values():
        there = {key(one): one for one in read.series(file, name, said)}
        for line in lines:
            other = there.get(key(line.series))
            mean = means.line(other).mean if other else None
            above = means.apart(line.series.value, other.value) if other else None
            found.append(Beside(name, line.series, mean, above))
    return found


def key(one: Series) -> tuple[str, str, str]:
    """What makes two series of different dictionaries comparable."""
    return one.by, one.scorer, one.judge


def table(found: Sequence[Beside]) -> dict[str, Any]:
    """What the component takes; those without scores say so."""
    return tables.table(HEADS, [row(one) for one in found])


def row(one: Beside) -> dict[str, Any]:
    """One comparison."""
    if one.mean is None or one.above is None:
        cells = [one.null, one.series.by, one.series.name, "0", "not scored yet", ""]
    else:
        cells = [
            one.null, one.series.by, one.series.name, count(one.mean.n), words.ranged(one.mean),
            tables.difference(one.above),
        ]  # fmt: skip
    return tables.row(cells)
