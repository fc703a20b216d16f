"""Score many explanations, each beside labels that know nothing, asked about the same windows."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from autointerp import nulls
from autointerp.contexts import Sampled, TooFew, Wanted
from autointerp.jobs.carrying import Done, Drawn, carry
from autointerp.jobs.choosing import Choice, drawn
from autointerp.jobs.gate import Gate, role
from autointerp.jobs.labels import Label, Labels
from autointerp.jobs.ledger import Ledger
from autointerp.jobs.questions_tally import counting_questions
from autointerp.jobs.summary import UNEXPLAINED, Summary
from autointerp.scorers import classes
from autointerp.scorers.records import Scored, Scorer, Tools
from autointerp.statistics import Estimate
from feature_store.reader import HarvestFile
from feature_store.scoring import NewScore

OWN = "own"


@dataclass(frozen=True)
class Plan:
    """What is scored, by whom, and where it goes."""

    file: HarvestFile
    dictionary: str
    choice: Choice
    wanted: Wanted
    labels: Labels
    scorers: Mapping[str, Scorer]
    tools: Tools
    judge: Callable[[Scorer], str]
    """Who answers a scorer, as scores say it."""
    job: str
    keep: Callable[[Sequence[NewScore]], None]
    ledger: Ledger
    tick: Callable[[Summary, int], None]
    """Called a few times a second, in a thread: what came out so far, and the whole."""
    width: int = 1
    gate: Gate | None = None


async def score(plan: Plan) -> Summary:
    """Score what is left; everything is kept as it comes. The summary is of earlier runs, too.

    Ends early where the gate stops; raises what the store, a scorer or `tick` raises.
    """
    d_sae = plan.file.dictionary(plan.dictionary).d_sae
    summary = Summary(d_sae, plan.labels.explainers, plan.scorers)
    await carry(
        partial(drawn, plan.file, plan.dictionary, plan.choice, plan.wanted),
        partial(one_feature, plan),
        plan.keep,
        summary,
        plan.ledger,
        lambda n: plan.tick(summary, plan.choice.total),
        plan.width,
        plan.gate,
    )
    return summary


async def one_feature(plan: Plan, one: Drawn) -> Done[NewScore] | None:
    """A feature's scores; None where asking was stopped meanwhile."""
    feature, found = one
    if isinstance(found, TooFew):
        return Done({"feature": feature.index, "skipped": found.reason})
    labels = plan.labels.of(feature.index)
    if not labels:
        # It has windows enough: `top:N` counts it, as it did when features were explained.
        return Done({"feature": feature.index, "without": UNEXPLAINED})
    sheet = Sheet(plan, found)
    pairs = [(label, name) for label in labels for name in plan.scorers]
    with counting_questions() as questions:
        rows = await asyncio.gather(*(sheet.row(label, name) for label, name in pairs))
    if plan.gate and plan.gate.stopped and any(r.failed or null_failed(r) for r in rows if r):
        return None
    entry: dict[str, Any] = {"feature": feature.index, "scored": {}}
    if questions.asked:
        entry["questions"] = questions.to_json()
    for (label, name), row in zip(pairs, rows, strict=True):
        entry["scored"].setdefault(label.explainer, {})[name] = brief(row)
    if n_failed := sum(r.failed + null_failed(r) for r in rows if r):
        entry["failed"] = n_failed
    return Done(entry, tuple(row for row in rows if row))


class Sheet:
    """One feature's windows; a label is judged once by each scorer, whoever shows it."""

    def __init__(self, plan: Plan, windows: Sampled) -> None:
        self._plan, self._windows = plan, windows
        self._judged: dict[tuple[str, str], asyncio.Task[Scored | None]] = {}

    async def row(self, label: Label, scorer: str) -> NewScore | None:
        """A label's score with its nulls; None where the scorer has too few windows."""
        shown = shown_of(label, self._windows)
        found = await asyncio.gather(
            *(self._score(text, scorer, label.explainer, kind) for kind, text in shown.items())
        )
        scored = dict(zip(shown, found, strict=True))
        own = scored.pop(OWN)
        if own is None:
            return None
        lost = {kind: one for kind, one in scored.items() if one is not None}
        return NewScore(
            label.explanation,
            self._windows.feature,
            scorer,
            own.measure,
            self._plan.judge(self._plan.scorers[scorer]),
            plain(own.value),
            {name: plain(part) for name, part in own.parts.items()},
            {kind: self._null(label, kind, shown[kind], one, own) for kind, one in lost.items()},
            [finite(asdict(item)) for item in own.judged],
            own.failed,
            finite(dict(own.detail)),
            self._plan.file.record.id,
            self._plan.job,
        )

    def _null(
        self, label: Label, kind: str, text: str, found: Scored, own: Scored
    ) -> dict[str, Any]:
        hard = found.parts.get("hard")
        more = {"lender": label.lender} if kind == "borrowed" else {}
        more |= {"hard": hard.value} if hard is not None else {}
        more |= {"pairs": pairs_of(own, found)}
        return plain(found.value) | {"label": text, "failed": found.failed} | more

    async def _score(self, text: str, scorer: str, explainer: str, kind: str) -> Scored | None:
        key = (text, scorer)
        if key not in self._judged:
            self._judged[key] = asyncio.ensure_future(self._ask(text, scorer, explainer, kind))
        return await asyncio.shield(self._judged[key])

    async def _ask(self, text: str, scorer: str, explainer: str, kind: str) -> Scored | None:
        with role(purpose(explainer, scorer, kind)):
            try:
                return await self._plan.scorers[scorer].score(text, self._windows, self._plan.tools)
            except TooFew:
                return None


def shown_of(label: Label, windows: Sampled) -> dict[str, str]:
    """A label, and those that know nothing of the feature, where there are such."""
    found = {
        OWN: label.text,
        "borrowed": label.borrowed,
        "constant": nulls.CONSTANT,
        "token": nulls.token_label(windows),
    }
    return {kind: text for kind, text in found.items() if text is not None}


async def asked(
    windows: Sampled, labels: Labels, scorers: Mapping[str, Scorer], tools: Tools
) -> None:
    """All that is asked about one feature, for an estimate; nothing is kept."""
    for label in labels.of(windows.feature.index):
        for kind, text in shown_of(label, windows).items():
            for name, scorer in scorers.items():
                with role(purpose(label.explainer, name, kind)), suppress(TooFew):
                    await scorer.score(text, windows, tools)


def purpose(explainer: str, scorer: str, kind: str) -> str:
    """Under which a call is recorded."""
    return f"{scorer} of {explainer or 'unnamed'}: {kind}"


def null_failed(row: NewScore) -> int:
    """Items of the nulls without a usable answer."""
    return sum(null["failed"] for null in row.nulls.values())


def pairs_of(own: Scored, other: Scored) -> int:
    """Return on how many windows of the headline both labels have a usable answer.

    Both labels are judged on the same windows in the same order; hard negatives, which are in no
    headline, are not counted.
    """
    apart = {classes.HARD, classes.OTHER, classes.WRONG}
    pairs = zip(own.judged, other.judged, strict=False)
    return sum(
        a.answer is not None and b.answer is not None for a, b in pairs if a.kind not in apart
    )


def brief(row: NewScore | None) -> dict[str, Any] | str:
    """A score in a line of the ledger; `few` where there is none."""
    if row is None:
        return "few"
    values = {name: short(part["value"]) for name, part in row.parts.items()}
    return {
        "value": short(row.estimate["value"]),
        "parts": values,
        "failed": row.failed,
        "nulls": {kind: short(null["value"]) for kind, null in row.nulls.items()},
        "pairs": row.nulls.get("borrowed", {}).get("pairs", 0),
    }


def short(value: float | None) -> float | None:
    """Enough digits for a mean of many."""
    return None if value is None else float(f"{value:.9g}")


def plain(estimate: Estimate) -> dict[str, Any]:
    """An estimate as the store takes it; what is not finite is not there."""
    return finite(asdict(estimate))


def finite(value: Any) -> Any:
    """The same with None in place of numbers that JSON has not."""
    if isinstance(value, dict):
        return {str(name): finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    if hasattr(value, "item"):  # of numpy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
