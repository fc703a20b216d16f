"""Explain many features: windows of the explain split to explainers, sentences to the store."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from autointerp.asking.records import Failed
from autointerp.contexts import TooFew, Wanted
from autointerp.explainers.records import Explained, Explainer, Tools
from autointerp.jobs.carrying import Done, Drawn, carry
from autointerp.jobs.choosing import Choice, drawn
from autointerp.jobs.gate import Gate, role
from autointerp.jobs.ledger import Ledger
from autointerp.jobs.questions_tally import QuestionCounts, counting_questions
from autointerp.windows import Example
from feature_store.reader import HarvestFile
from feature_store.records import FeatureId
from feature_store.scoring import NewExplanation

SourcesOf = Callable[[FeatureId, Example], Awaitable[Sequence[float] | None]]
"""As explainers' Sources, for any feature."""


@dataclass(frozen=True)
class Plan:
    """What is explained, by whom, and where it goes."""

    file: HarvestFile
    dictionary: str
    choice: Choice
    wanted: Wanted
    explainers: Mapping[str, Explainer]
    tools: Tools
    job: str
    keep: Callable[[Sequence[NewExplanation]], object]
    ledger: Ledger
    tick: Callable[["Tally", int], None]
    """Called a few times a second, in a thread: what came out so far, and the whole."""
    width: int = 1
    gate: Gate | None = None
    sources: SourcesOf | None = None


class Tally:
    """How many were explained, failed and skipped: a byte a feature and explainer."""

    def __init__(self, d_sae: int, explainers: Sequence[str]) -> None:
        self._how = {name: np.zeros(d_sae, np.int8) for name in explainers}
        self._skipped = np.zeros(d_sae, object)
        self.questions = QuestionCounts()
        self.latest: list[tuple[str, str]] = []
        """Some of the sentences that came last: (feature, text)."""

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count one feature; done once more, the later time holds."""
        feature = entry["feature"]
        self.questions.add(entry)
        self._skipped[feature] = entry.get("skipped", 0)
        for name, failed in entry.get("explained", {}).items():
            self._how[name][feature] = 2 if failed else 1

    @property
    def done(self) -> int:
        """Features with any outcome."""
        seen = self._skipped.astype(bool)
        for how in self._how.values():
            seen |= how > 0
        return int(seen.sum())

    @property
    def taken(self) -> int:
        """Features with any outcome that had enough contexts: those that `top:N` counts."""
        seen = np.zeros(len(self._skipped), bool)
        for how in self._how.values():
            seen |= how > 0
        return int(seen.sum())

    @property
    def skipped(self) -> dict[str, int]:
        """Reason → features."""
        reasons = [reason for reason in self._skipped.tolist() if reason]
        return {reason: reasons.count(reason) for reason in sorted(set(reasons))}

    def counts(self, explainer: str) -> tuple[int, int]:
        """Features explained and features failed."""
        how = self._how[explainer]
        return int((how == 1).sum()), int((how == 2).sum())


async def explain(plan: Plan) -> Tally:
    """Explain what is left; everything is kept as it comes. The tally is of earlier runs, too.

    Ends early where the gate stops; raises what the store or `tick` raises.
    """
    tally = Tally(plan.file.dictionary(plan.dictionary).d_sae, list(plan.explainers))

    def kept(rows: Sequence[NewExplanation]) -> None:
        plan.keep(rows)
        tally.latest = [(str(row.feature), row.text) for row in rows[-5:]] or tally.latest

    await carry(
        partial(drawn, plan.file, plan.dictionary, plan.choice, plan.wanted),
        partial(one_feature, plan),
        kept,
        tally,
        plan.ledger,
        lambda n: plan.tick(tally, plan.choice.total),
        plan.width,
        plan.gate,
    )
    return tally


async def one_feature(plan: Plan, one: Drawn) -> Done[NewExplanation] | None:
    """A feature's sentences, one after the other; None where asking was stopped meanwhile."""
    feature, found = one
    if isinstance(found, TooFew):
        return Done({"feature": feature.index, "skipped": found.reason})
    said: dict[str, str] = {}
    rows: list[NewExplanation] = []
    tools = plan.tools
    if plan.sources:
        tools = replace(tools, sources=partial(plan.sources, feature))
    with counting_questions() as questions:
        for name, explainer in plan.explainers.items():
            asked, failed = questions.asked, questions.failed
            with role(f"explain: {name}"):
                answer = await explainer.explain(found, tools)
            if plan.gate and plan.gate.stopped and isinstance(answer, Failed):
                return None
            said[name] = answer.kind if isinstance(answer, Failed) else ""
            if isinstance(answer, Explained):
                rows.append(row_of(plan, feature, answer))
            elif questions.failed == failed and questions.asked > asked:
                # the reply came, but is no explanation
                questions.reject(answer)
    entry: dict[str, Any] = {"feature": feature.index, "explained": said}
    if questions.asked:
        entry["questions"] = questions.to_json()
    n_failed = sum(bool(kind) for kind in said.values())
    return Done(entry | ({"failed": n_failed} if n_failed else {}), tuple(rows))


def row_of(plan: Plan, feature: FeatureId, said: Explained) -> NewExplanation:
    """A sentence with where it is from."""
    provenance = {
        "source": "saefari",
        "job": plan.job,
        "harvest": plan.file.record.id,
        "prompt": said.prompt,
        "shown": [list(key) for key in said.shown],
        "calls": list(said.calls),
        "detail": dict(said.detail),
    }
    return NewExplanation(feature, said.text, said.explainer, said.model, "model", provenance)
