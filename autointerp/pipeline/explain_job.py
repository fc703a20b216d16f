"""The explain job: sample windows of many features from the explain split, pass them to the
explainers, and store the explanations."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from autointerp.contexts import SampleSettings, TooFewWindows
from autointerp.explainers.explainer_interface import Explainer, ExplainerTools, WrittenExplanation
from autointerp.llm.requests_and_replies import RequestFailure
from autointerp.pipeline.feature_selection import FeatureSelection, sample_selected_features
from autointerp.pipeline.pausable_asker import PausableAsker, set_call_purpose
from autointerp.pipeline.progress_log import ProgressLog
from autointerp.pipeline.question_tally import QuestionCounts, count_questions
from autointerp.pipeline.resumable_run import FeatureOutcome, SampledOrTooFew, run_resumable
from autointerp.text_windows import TextWindow
from feature_store.explanation_edits import NewExplanation
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId

FeatureAttentionSources = Callable[[FeatureId, TextWindow], Awaitable[Sequence[float] | None]]
"""Type of a function that gives the attention sources of a window, for any feature."""


@dataclass(frozen=True)
class ExplainPlan:
    """Plan of an explain job: the features, the explainers, and where explanations are stored."""

    file: HarvestFile
    dictionary: str
    selection: FeatureSelection
    settings: SampleSettings
    explainers: Mapping[str, Explainer]
    tools: ExplainerTools
    job: str
    keep: Callable[[Sequence[NewExplanation]], object]
    progress_log: ProgressLog
    tick: Callable[["ExplainTally", int], None]
    """Function called a few times a second, in a thread, with the tally so far and the number of
    features to process."""
    width: int = 1
    asker: PausableAsker | None = None
    sources: FeatureAttentionSources | None = None


class ExplainTally:
    """Number of features that an explain job explained, failed and skipped: one byte per feature
    and explainer."""

    def __init__(self, d_sae: int, explainers: Sequence[str]) -> None:
        self._how = {name: np.zeros(d_sae, np.int8) for name in explainers}
        self._skipped = np.zeros(d_sae, object)
        self.questions = QuestionCounts()
        self.latest: list[tuple[str, str]] = []
        """Some of the newest explanations: (feature, text)."""

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count the result of one feature in the tally of an explain job; a later entry of the same
        feature replaces the earlier one."""
        feature = entry["feature"]
        self.questions.add(entry)
        self._skipped[feature] = entry.get("skipped", 0)
        for name, failed in entry.get("explained", {}).items():
            self._how[name][feature] = 2 if failed else 1

    @property
    def done(self) -> int:
        """Number of features of the explain job with any outcome."""
        seen = self._skipped.astype(bool)
        for how in self._how.values():
            seen |= how > 0
        return int(seen.sum())

    @property
    def taken(self) -> int:
        """Number of features that the explain job has processed and that had enough contexts: those
        that the option `--features top:N` counts."""
        seen = np.zeros(len(self._skipped), bool)
        for how in self._how.values():
            seen |= how > 0
        return int(seen.sum())

    @property
    def skipped(self) -> dict[str, int]:
        """Reason → number of features that the explain job skipped."""
        reasons = [reason for reason in self._skipped.tolist() if reason]
        return {reason: reasons.count(reason) for reason in sorted(set(reasons))}

    def counts(self, explainer: str) -> tuple[int, int]:
        """Return the number of features explained and failed, for one explainer."""
        how = self._how[explainer]
        return int((how == 1).sum()), int((how == 2).sum())


async def explain_features(plan: ExplainPlan) -> ExplainTally:
    """Explain the features that earlier runs of the job left over, storing each explanation as it
    comes; return the tally of all runs.

    Ends early where the asker has stopped; raises what the store or `tick` raises.
    """
    tally = ExplainTally(plan.file.dictionary(plan.dictionary).d_sae, list(plan.explainers))

    def keep_rows(rows: Sequence[NewExplanation]) -> None:
        plan.keep(rows)
        tally.latest = [(str(row.feature), row.text) for row in rows[-5:]] or tally.latest

    await run_resumable(
        partial(
            sample_selected_features, plan.file, plan.dictionary, plan.selection, plan.settings
        ),
        partial(explain_one_feature, plan),
        keep_rows,
        tally,
        plan.progress_log,
        lambda n: plan.tick(tally, plan.selection.total),
        plan.width,
        plan.asker,
    )
    return tally


async def explain_one_feature(
    plan: ExplainPlan, sampled: SampledOrTooFew
) -> FeatureOutcome[NewExplanation] | None:
    """Return the outcome of one feature in an explain job: its explanations by all explainers, one
    after the other, or why it was skipped; None where the job stopped asking meanwhile."""
    feature, windows = sampled
    if isinstance(windows, TooFewWindows):
        return FeatureOutcome({"feature": feature.index, "skipped": windows.reason})
    failures: dict[str, str] = {}
    rows: list[NewExplanation] = []
    tools = plan.tools
    if plan.sources:
        tools = replace(tools, sources=partial(plan.sources, feature))
    with count_questions() as questions:
        for name, explainer in plan.explainers.items():
            asked, failed = questions.asked, questions.failed
            with set_call_purpose(f"explain: {name}"):
                answer = await explainer.explain(windows, tools)
            if plan.asker and plan.asker.stopped and isinstance(answer, RequestFailure):
                return None
            failures[name] = answer.kind if isinstance(answer, RequestFailure) else ""
            if isinstance(answer, WrittenExplanation):
                rows.append(make_explanation_row(plan, feature, answer))
            elif questions.failed == failed and questions.asked > asked:
                # a reply arrived, but it contains no explanation
                questions.reject(answer)
    entry: dict[str, Any] = {"feature": feature.index, "explained": failures}
    if questions.asked:
        entry["questions"] = questions.to_json()
    n_failed = sum(bool(kind) for kind in failures.values())
    return FeatureOutcome(entry | ({"failed": n_failed} if n_failed else {}), tuple(rows))


def make_explanation_row(
    plan: ExplainPlan, feature: FeatureId, explanation: WrittenExplanation
) -> NewExplanation:
    """Return an explanation as a row for the store, with its provenance: job, harvest, prompt,
    windows and calls."""
    provenance = {
        "source": "saefari",
        "job": plan.job,
        "harvest": plan.file.record.id,
        "prompt": explanation.prompt,
        "shown": [list(key) for key in explanation.shown],
        "calls": list(explanation.calls),
        "detail": dict(explanation.detail),
    }
    return NewExplanation(
        feature, explanation.text, explanation.explainer, explanation.model, "model", provenance
    )
