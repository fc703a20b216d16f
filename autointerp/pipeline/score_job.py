"""The score job: score the explanations of many features, each compared with baseline labels that
are judged on the same text windows."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from autointerp import baseline_labels
from autointerp.contexts import FeatureSample, SampleSettings, TooFewWindows
from autointerp.pipeline.feature_selection import FeatureSelection, sample_selected_features
from autointerp.pipeline.labels_to_score import LabelsToScore, LabelToScore
from autointerp.pipeline.pausable_asker import PausableAsker, set_call_purpose
from autointerp.pipeline.progress_log import ProgressLog
from autointerp.pipeline.question_tally import count_questions
from autointerp.pipeline.resumable_run import FeatureOutcome, SampledOrTooFew, run_resumable
from autointerp.pipeline.score_summary import UNEXPLAINED, ScoreSummary
from autointerp.scorers import classification_scores
from autointerp.scorers.scorer_interface import LabelScore, Scorer, ScorerTools
from feature_store.harvest_reader import HarvestFile
from feature_store.score_storage import NewScore
from feature_store.statistics import Estimate

OWN_LABEL = "own"


@dataclass(frozen=True)
class ScorePlan:
    """Plan of a score job: the features, labels and scorers, and where scores are stored."""

    file: HarvestFile
    dictionary: str
    selection: FeatureSelection
    settings: SampleSettings
    labels: LabelsToScore
    scorers: Mapping[str, Scorer]
    tools: ScorerTools
    judge: Callable[[Scorer], str]
    """Return the name of the judge that answers a scorer's questions, as stored with the scores."""
    job: str
    keep: Callable[[Sequence[NewScore]], None]
    progress_log: ProgressLog
    tick: Callable[[ScoreSummary, int], None]
    """Function called a few times a second, in a thread, with the score summary so far and the
    number of features to process."""
    width: int = 1
    asker: PausableAsker | None = None


async def score_features(plan: ScorePlan) -> ScoreSummary:
    """Score the features that earlier runs of the job left over, storing each score as it comes;
    return the score summary of all runs.

    Ends early where the asker has stopped; raises what the store, a scorer or `tick` raises.
    """
    d_sae = plan.file.dictionary(plan.dictionary).d_sae
    summary = ScoreSummary(d_sae, plan.labels.explainers, plan.scorers)
    await run_resumable(
        partial(
            sample_selected_features, plan.file, plan.dictionary, plan.selection, plan.settings
        ),
        partial(score_one_feature, plan),
        plan.keep,
        summary,
        plan.progress_log,
        lambda n: plan.tick(summary, plan.selection.total),
        plan.width,
        plan.asker,
    )
    return summary


async def score_one_feature(
    plan: ScorePlan, one: SampledOrTooFew
) -> FeatureOutcome[NewScore] | None:
    """Return the outcome of one feature in a score job: the scores of all its labels by all
    scorers, or why it was skipped; None where the job stopped asking meanwhile."""
    feature, found = one
    if isinstance(found, TooFewWindows):
        return FeatureOutcome({"feature": feature.index, "skipped": found.reason})
    labels = plan.labels.of_feature(feature.index)
    if not labels:
        # It has enough windows, so `top:N` counts it, as in the explain job.
        return FeatureOutcome({"feature": feature.index, "without": UNEXPLAINED})
    feature_scorer = FeatureScorer(plan, found)
    pairs = [(label, name) for label in labels for name in plan.scorers]
    with count_questions() as questions:
        rows = await asyncio.gather(
            *(feature_scorer.score_row(label, name) for label, name in pairs)
        )
    if (
        plan.asker
        and plan.asker.stopped
        and any(r.failed or count_baseline_failures(r) for r in rows if r)
    ):
        return None
    entry: dict[str, Any] = {"feature": feature.index, "scored": {}}
    if questions.asked:
        entry["questions"] = questions.to_json()
    for (label, name), row in zip(pairs, rows, strict=True):
        entry["scored"].setdefault(label.explainer, {})[name] = summarize_score_row(row)
    if n_failed := sum(r.failed + count_baseline_failures(r) for r in rows if r):
        entry["failed"] = n_failed
    return FeatureOutcome(entry, tuple(row for row in rows if row))


class FeatureScorer:
    """Scorer of the labels of one feature in a score job: each label text is judged once by each
    scorer, even if several explainers wrote it."""

    def __init__(self, plan: ScorePlan, windows: FeatureSample) -> None:
        self._plan, self._windows = plan, windows
        self._score_tasks: dict[tuple[str, str], asyncio.Task[LabelScore | None]] = {}

    async def score_row(self, label: LabelToScore, scorer: str) -> NewScore | None:
        """Return the score of a label together with the scores of its baseline labels; None where
        the scorer has too few windows."""
        shown = label_and_baselines(label, self._windows)
        found = await asyncio.gather(
            *(self._score(text, scorer, label.explainer, kind) for kind, text in shown.items())
        )
        scored = dict(zip(shown, found, strict=True))
        own = scored.pop(OWN_LABEL)
        if own is None:
            return None
        baselines = {kind: one for kind, one in scored.items() if one is not None}
        return NewScore(
            label.explanation,
            self._windows.feature,
            scorer,
            own.measure,
            self._plan.judge(self._plan.scorers[scorer]),
            estimate_to_json(own.value),
            {name: estimate_to_json(part) for name, part in own.parts.items()},
            {
                kind: self._baseline_score(label, kind, shown[kind], one, own)
                for kind, one in baselines.items()
            },
            [replace_non_finite(asdict(item)) for item in own.judged],
            own.failed,
            replace_non_finite(dict(own.detail)),
            self._plan.file.record.id,
            self._plan.job,
        )

    def _baseline_score(
        self, label: LabelToScore, kind: str, text: str, found: LabelScore, own: LabelScore
    ) -> dict[str, Any]:
        """Return the score of a baseline label as plain data for the store."""
        hard = found.parts.get("hard")
        more = {"lender": label.lender} if kind == "borrowed" else {}
        more |= {"hard": hard.value} if hard is not None else {}
        more |= {"pairs": count_answered_pairs(own, found)}
        return estimate_to_json(found.value) | {"label": text, "failed": found.failed} | more

    async def _score(self, text: str, scorer: str, explainer: str, kind: str) -> LabelScore | None:
        """Return the score of a label text by one scorer, computed once per text."""
        key = (text, scorer)
        if key not in self._score_tasks:
            self._score_tasks[key] = asyncio.ensure_future(self._ask(text, scorer, explainer, kind))
        # shielded: cancelling one waiting task must not cancel a score that others share
        return await asyncio.shield(self._score_tasks[key])

    async def _ask(self, text: str, scorer: str, explainer: str, kind: str) -> LabelScore | None:
        """Score a label text by one scorer; None where the scorer has too few windows."""
        with set_call_purpose(call_purpose(explainer, scorer, kind)):
            try:
                return await self._plan.scorers[scorer].score(text, self._windows, self._plan.tools)
            except TooFewWindows:
                return None


def label_and_baselines(label: LabelToScore, windows: FeatureSample) -> dict[str, str]:
    """Return the labels that a score job scores for one feature, by name: its own, and the
    baselines borrowed, constant and token."""
    found = {
        OWN_LABEL: label.text,
        "borrowed": label.borrowed,
        "constant": baseline_labels.CONSTANT_LABEL,
        "token": baseline_labels.make_token_label(windows),
    }
    return {kind: text for kind, text in found.items() if text is not None}


async def ask_for_estimate(
    windows: FeatureSample, labels: LabelsToScore, scorers: Mapping[str, Scorer], tools: ScorerTools
) -> None:
    """Ask everything that a score job would ask about one feature, for its cost estimate; nothing
    is stored."""
    for label in labels.of_feature(windows.feature.index):
        for kind, text in label_and_baselines(label, windows).items():
            for name, scorer in scorers.items():
                with (
                    set_call_purpose(call_purpose(label.explainer, name, kind)),
                    suppress(TooFewWindows),
                ):
                    await scorer.score(text, windows, tools)


def call_purpose(explainer: str, scorer: str, kind: str) -> str:
    """Return the purpose under which a score job's call is recorded: scorer, explainer and kind of
    label."""
    return f"{scorer} of {explainer or 'unnamed'}: {kind}"


def count_baseline_failures(row: NewScore) -> int:
    """Return the number of items (windows or texts), over all baseline labels of a score, on which
    the judge gave no usable answer."""
    return sum(null["failed"] for null in row.nulls.values())


def count_answered_pairs(own: LabelScore, other: LabelScore) -> int:
    """Return the number of windows of the headline score on which the judge gave a usable answer
    for both labels, the feature's own and a baseline.

    Both labels are judged on the same windows in the same order; hard negatives are not part of the
    headline and are not counted.
    """
    apart = {
        classification_scores.HARD,
        classification_scores.OTHER_SIDE,
        classification_scores.WRONG_TOKENS,
    }
    pairs = zip(own.judged, other.judged, strict=False)
    return sum(
        a.answer is not None and b.answer is not None for a, b in pairs if a.kind not in apart
    )


def summarize_score_row(row: NewScore | None) -> dict[str, Any] | str:
    """Return a score in short form for the progress log; `few` where the scorer had too few
    windows."""
    if row is None:
        return "few"
    values = {name: round_digits(part["value"]) for name, part in row.parts.items()}
    return {
        "value": round_digits(row.estimate["value"]),
        "parts": values,
        "failed": row.failed,
        "nulls": {kind: round_digits(null["value"]) for kind, null in row.nulls.items()},
        "pairs": row.nulls.get("borrowed", {}).get("pairs", 0),
    }


def round_digits(value: float | None) -> float | None:
    """Round a score to nine significant digits, enough for a mean over many features."""
    return None if value is None else float(f"{value:.9g}")


def estimate_to_json(estimate: Estimate) -> dict[str, Any]:
    """Return the estimate of a score as plain data for the store; non-finite numbers become
    None."""
    return replace_non_finite(asdict(estimate))


def replace_non_finite(value: Any) -> Any:
    """Return the plain data of a score with None for every number that JSON cannot represent."""
    if isinstance(value, dict):
        return {str(name): replace_non_finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [replace_non_finite(one) for one in value]
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
