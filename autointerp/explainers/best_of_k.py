"""The explainer `best-of-k`: a language model writes several explanations of the strongest windows,
and the one that scores best by detection is kept.

Candidates are compared on windows of the explain split that they were not written from; the score
split is not used, so that the chosen explanation's score is not inflated by the choice.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from autointerp.contexts import FeatureSample
from autointerp.explainers import max_activating, window_text
from autointerp.explainers.explainer_interface import Explainer, ExplainerTools, WrittenExplanation
from autointerp.explainers.explanation_request import request_explanation, require_asker
from autointerp.llm.requests_and_replies import JOB_STOPPING_KINDS, RequestFailure
from autointerp.text_windows import TextWindow

if TYPE_CHECKING:
    from autointerp.scorers.scorer_interface import JudgedItem, LabelScore

NAME = "best-of-k"
CANDIDATES = 4
TEMPERATURE = 0.8
JUDGED_PER_CLASS = 10
"""Number of windows of each class on which the candidates are compared."""


async def explain(
    sampled: FeatureSample, tools: ExplainerTools
) -> WrittenExplanation | RequestFailure:
    """Explain a feature by the best of k candidate explanations, the one of highest balanced
    accuracy (the first of equals).

    `detail` has all candidates with their accuracies. Fails where there is no candidate, or none
    could be judged.
    """
    require_asker(tools, NAME)
    shown = window_text.strongest_windows(sampled)
    written = await asyncio.gather(
        *(
            request_explanation(
                max_activating.NAME,
                tools,
                shown,
                max_activating.make_prompt_fields,
                temperature=TEMPERATURE,
                draw=n,
            )
            for n in range(CANDIDATES)
        )
    )
    failed = [one for one in written if isinstance(one, RequestFailure)]
    candidates = list(
        {one.text: one for one in written if isinstance(one, WrittenExplanation)}.values()
    )
    if not candidates or any(one.stops_job for one in failed):
        return max(failed, key=lambda one: one.stops_job)
    held_out = hold_out_windows(sampled, shown)
    found = await asyncio.gather(
        *(judge_candidate(one.text, held_out, tools) for one in candidates)
    )
    if ended := JOB_STOPPING_KINDS.intersection(row.failed for one in found for row in one.judged):
        return RequestFailure(min(ended), "Asking ended before all candidates were judged.")
    accuracies, n = compare_candidates([one.judged for one in found])
    if all(value is None for value in accuracies):
        return RequestFailure(
            "unreadable", "None of the candidates could be judged, so none was chosen."
        )
    ranks = [(value is not None, value or 0) for value in accuracies]
    best = candidates[ranks.index(max(ranks))]  # the first of equals
    calls = [
        *(key for one in written if isinstance(one, WrittenExplanation) for key in one.calls),
        *(key for one in found for key in one.calls),
    ]
    detail = {
        "candidates": [
            {"text": one.text, "balanced_accuracy": value}
            for one, value in zip(candidates, accuracies, strict=True)
        ],
        "firing": n[0],
        "silent": n[1],
        "failed": len(failed),
    }
    return replace(best, explainer=NAME, calls=tuple(dict.fromkeys(calls)), detail=detail)


def hold_out_windows(sampled: FeatureSample, shown: Sequence[TextWindow]) -> FeatureSample:
    """Return a sample of the feature whose score windows are those of the explain split that no
    candidate explanation was written from; on these the best candidate is chosen."""
    seen = {example.key for example in shown}
    held_out_firing = (*sampled.explain_more, *(e for e in sampled.explain if e.key not in seen))
    return replace(
        sampled,
        explain=(),
        explain_more=(),
        explain_random=(),
        explain_hard=(),
        hard=(),
        other=(),
        positives=held_out_firing[:JUDGED_PER_CLASS],
        random=sampled.explain_random[:JUDGED_PER_CLASS],
    )


async def judge_candidate(
    label: str, held_out: FeatureSample, tools: ExplainerTools
) -> "LabelScore":
    """Return the detection score of a candidate explanation on held-out windows, judged by the same
    language model that wrote it."""
    from autointerp.scorers import detection
    from autointerp.scorers.scorer_interface import LLM_JUDGE
    from autointerp.scorers.scorer_interface import ScorerTools as Judging

    judging = Judging(LLM_JUDGE, tools.ask, seed=tools.seed, thinking=tools.thinking)
    return await detection.score(label, held_out, judging)


def compare_candidates(
    judged: Sequence[Sequence["JudgedItem"]],
) -> tuple[list[float | None], tuple[int, int]]:
    """Return each candidate explanation's balanced accuracy, and the number of firing and silent
    windows that it is based on.

    Only windows on which every judged candidate has an answer are used: fewer windows would favour
    luck. None for a candidate that was not judged, and where a class has no such window.
    """
    answered = [{(r.sequence, r.start): r for r in rows if r.answer is not None} for rows in judged]
    with_answers = [one for one in answered if one]
    common = set.intersection(*map(set, with_answers)) if with_answers else set()
    firing = sum(with_answers[0][key].truth == 1.0 for key in common)
    n = (firing, len(common) - firing)
    return [
        candidate_accuracy([one[k] for k in common]) if one and all(n) else None for one in answered
    ], n


def candidate_accuracy(rows: Sequence["JudgedItem"]) -> float:
    """Return the balanced accuracy of a candidate explanation: the mean of both classes' shares of
    right answers."""
    rates = []
    for truth in (1.0, 0.0):
        right = [row.answer == row.truth for row in rows if row.truth == truth]
        rates.append(sum(right) / len(right))
    return sum(rates) / 2


EXPLAINER = Explainer(
    "Best of several",
    "A language model writes several explanations; the one with the best detection "
    "score on windows held out of the explain split is kept.",
    explain,
    frozenset(("server",)),
    uses_silent=True,
)
