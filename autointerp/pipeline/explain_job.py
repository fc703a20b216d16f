"""Explain many features: windows of the explain split to explainers, sentences to the store."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from autointerp.contexts import SampleSettings, TooFewWindows
from autointerp.explainers.records import Explainer, ExplainerTools, WrittenExplanation
from autointerp.llm.records import RequestFailure
from autointerp.pipeline.feature_selection import FeatureSelection, sample_selected_features
from autointerp.pipeline.pausable_asker import PausableAsker, set_call_purpose
from autointerp.pipeline.progress_log import ProgressLog
from autointerp.pipeline.question_tally import QuestionCounts, count_questions
from autointerp.pipeline.resumable_run import FeatureOutcome, SampledOrTooFew, run_resumable
from autointerp.text_windows import TextWindow
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from feature_store.score_storage import NewExplanation

FeatureAttentionSources = Callable[[FeatureId, TextWindow], Awaitable[Sequence[float] | None]]
"""As explainers' Sources, for any feature."""


@dataclass(frozen=True)
class ExplainPlan:
    """What is explained, by whom, and where it goes."""

    file: HarvestFile
    dictionary: str
    choice: FeatureSelection
    wanted: SampleSettings
    explainers: Mapping[str, Explainer]
    tools: ExplainerTools
    job: str
    keep: Callable[[Sequence[NewExplanation]], object]
    ledger: ProgressLog
    tick: Callable[["ExplainTally", int], None]
    """Called a few times a second, in a thread: what came out so far, and the whole."""
    width: int = 1
    gate: PausableAsker | None = None
    sources: FeatureAttentionSources | None = None


class ExplainTally:
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


async def explain_features(plan: ExplainPlan) -> ExplainTally:
    """Explain what is left; everything is kept as it comes. The tally is of earlier runs, too.

    Ends early where the gate stops; raises what the store or `tick` raises.
    """
    tally = ExplainTally(plan.file.dictionary(plan.dictionary).d_sae, list(plan.explainers))

    def kept(rows: Sequence[NewExplanation]) -> None:
        plan.keep(rows)
        tally.latest = [(str(row.feature), row.text) for row in rows[-5:]] or tally.latest

    await run_resumable(
        partial(sample_selected_features, plan.file, plan.dictionary, plan.choice, plan.wanted),
        partial(explain_one_feature, plan),
        kept,
        tally,
        plan.ledger,
        lambda n: plan.tick(tally, plan.choice.total),
        plan.width,
        plan.gate,
    )
    return tally


async def explain_one_feature(
    plan: ExplainPlan, one: SampledOrTooFew
) -> FeatureOutcome[NewExplanation] | None:
    """A feature's sentences, one after the other; None where asking was stopped meanwhile."""
    feature, found = one
    if isinstance(found, TooFewWindows):
        return FeatureOutcome({"feature": feature.index, "skipped": found.reason})
    said: dict[str, str] = {}
    rows: list[NewExplanation] = []
    tools = plan.tools
    if plan.sources:
        tools = replace(tools, sources=partial(plan.sources, feature))
    with count_questions() as questions:
        for name, explainer in plan.explainers.items():
            asked, failed = questions.asked, questions.failed
            with set_call_purpose(f"explain: {name}"):
                answer = await explainer.explain(found, tools)
            if plan.gate and plan.gate.stopped and isinstance(answer, RequestFailure):
                return None
            said[name] = answer.kind if isinstance(answer, RequestFailure) else ""
            if isinstance(answer, WrittenExplanation):
                rows.append(make_explanation_row(plan, feature, answer))
            elif questions.failed == failed and questions.asked > asked:
                # the reply came, but is no explanation
                questions.reject(answer)
    entry: dict[str, Any] = {"feature": feature.index, "explained": said}
    if questions.asked:
        entry["questions"] = questions.to_json()
    n_failed = sum(bool(kind) for kind in said.values())
    return FeatureOutcome(entry | ({"failed": n_failed} if n_failed else {}), tuple(rows))


def make_explanation_row(
    plan: ExplainPlan, feature: FeatureId, said: WrittenExplanation
) -> NewExplanation:
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
