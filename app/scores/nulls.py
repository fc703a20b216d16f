"""A dictionary's scores beside those of its null dictionaries."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.scores import means, null_charts, read, tables, words
from app.scores.means import SeriesMeans
from app.scores.read import Series
from app.wording import count
from autointerp.scorers import SCORERS
from autointerp.scorers.scorer_interface import LLM_JUDGE, PATTERN_JUDGE
from feature_store.annotations import Annotations
from feature_store.explanations import PERSON
from feature_store.harvest_reader import HarvestFile
from feature_store.null_dictionaries import find_null_dictionaries
from feature_store.statistics import Estimate, independent_difference

HEADS: tuple[tables.Column, ...] = (
    ("null dictionary", "", "untrained directions of the same harvest, explained and scored alike"),
    ("explainer", "", ""),
    ("score", "", ""),
    ("features", "number", "of the null dictionary, with a value"),
    ("its mean [95 %]", "number", "over its features"),
    (
        "this dictionary above it",
        "number",
        "difference of the means, 95 %; features differ, so nothing is paired",
    ),
)


@dataclass(frozen=True)
class Beside:
    """One series against the same of a null dictionary."""

    null: str
    line: SeriesMeans
    other: Series | None
    """The null dictionary's; None where it has no such scores."""
    mean: Estimate | None
    above: Estimate | None
    explained: bool
    """Whether the null dictionary has sentences by this explainer."""

    @property
    def series(self) -> Series:
        """The dictionary's own."""
        return self.line.series


def beside(
    file: HarvestFile, dictionary: str, said: Annotations, lines: Sequence[SeriesMeans]
) -> list[Beside]:
    """Every series against every null dictionary; empty where the harvest has none."""
    found = []
    for name in find_null_dictionaries(file, dictionary).values():
        explainers = said.scorable.explainers(name)
        there = {key(one): one for one in read.series(file, name, said)}
        for line in lines:
            other = there.get(key(line.series))
            mean = means.line(other).mean if other else None
            above = independent_difference(line.mean, mean) if mean else None
            explained = line.series.explainer in explainers
            found.append(Beside(name, line, other, mean, above, explained))
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
            one.null,
            one.series.by,
            one.series.name,
            count(one.mean.n),
            words.ranged(one.mean),
            tables.difference(one.above),
        ]
    return tables.row(cells)


def panels(dictionary: str, found: Sequence[Beside]) -> list[null_charts.Panel]:
    """A panel for each series that a null dictionary has, too."""
    there: dict[int, list[Beside]] = {}
    for one in found:
        if one.other is not None:
            there.setdefault(id(one.series), []).append(one)
    return [
        null_charts.Panel(
            same[0].series,
            (
                null_charts.Row(dictionary, same[0].series.value, same[0].line.mean),
                *(
                    null_charts.Row(one.null, one.other.value, one.mean)
                    for one in same
                    if one.other is not None and one.mean is not None
                ),
            ),
        )
        for same in there.values()
    ]


def commands(found: Sequence[Beside], given: Sequence[str]) -> list[str]:
    """What to run in a terminal for the scores that null dictionaries lack; `given` are the options
    that say which store and harvest. None for what a person wrote: nobody else can."""
    lines: dict[str, None] = {}
    lacking: dict[tuple[str, str, str], list[Beside]] = {}
    for one in found:
        if one.other is None and one.series.explainer != PERSON:
            judge = one.series.judge if judged_by_model(one.series) else ""
            lacking.setdefault((one.null, one.series.by, judge), []).append(one)
    for (null, _, judge), missing in lacking.items():
        first = missing[0].series
        where = [*given, "--dictionary", null, "--features", "all", "--explainer", first.explainer]
        if not missing[0].explained:
            model = first.by.removeprefix(first.explainer).removeprefix(" · ")
            more = ["--model", model] if model else []
            lines[f"saefari explain {shlex.join([*where, *more])}"] = None
        scorers = ",".join(dict.fromkeys(one.series.scorer for one in missing))
        more = ["--scorer", scorers, *(["--judge", LLM_JUDGE, "--model", judge] if judge else [])]
        lines[f"saefari score {shlex.join([*where, *more])}"] = None
    return list(lines)


def judged_by_model(one: Series) -> bool:
    """Whether a language model answered."""
    asks = one.scorer not in SCORERS or bool(SCORERS[one.scorer].judges)
    return asks and bool(one.judge) and one.judge != PATTERN_JUDGE
