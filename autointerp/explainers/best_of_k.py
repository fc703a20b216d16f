"""Several explanations of the strongest windows, and of them the one that tells windows best.

Chosen by detection on windows of the explain split that the candidates were not written from; the
score split is not touched, so that the chosen one's score is no better for having been chosen.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from autointerp.asking.records import HOPELESS, Failed
from autointerp.contexts import Sampled
from autointerp.explainers import max_activating, showing
from autointerp.explainers.asking import asker, said
from autointerp.explainers.records import Explained, Explainer, Tools
from autointerp.windows import Example

if TYPE_CHECKING:
    from autointerp.scorers.records import Judged, Scored

NAME = "best-of-k"
CANDIDATES = 4
TEMPERATURE = 0.8
JUDGED = 10
"""Windows of a class on which candidates are compared."""


async def explain(sampled: Sampled, tools: Tools) -> Explained | Failed:
    """The candidate of the highest balanced accuracy, the first of equals.

    `detail` names all candidates with what they reached. A failure if no candidate came, or none
    could be judged.
    """
    asker(tools, NAME)
    shown = showing.tops(sampled)
    drawn = await asyncio.gather(
        *(
            said(
                max_activating.NAME,
                tools,
                shown,
                max_activating.fields,
                temperature=TEMPERATURE,
                draw=n,
            )
            for n in range(CANDIDATES)
        )
    )
    failed = [one for one in drawn if isinstance(one, Failed)]
    came = list({one.text: one for one in drawn if isinstance(one, Explained)}.values())
    if not came or any(one.hopeless for one in failed):
        return max(failed, key=lambda one: one.hopeless)
    held = apart(sampled, shown)
    found = await asyncio.gather(*(judged(one.text, held, tools) for one in came))
    if ended := HOPELESS.intersection(row.failed for one in found for row in one.judged):
        return Failed(min(ended), "Asking ended before all candidates were judged.")
    reached, n = compared([one.judged for one in found])
    if all(value is None for value in reached):
        return Failed("unreadable", "None of the candidates could be judged, so none was chosen.")
    best = came[max(range(len(came)), key=lambda i: (reached[i] is not None, reached[i] or 0, -i))]
    calls = [
        *(key for one in drawn if isinstance(one, Explained) for key in one.calls),
        *(key for one in found for key in one.calls),
    ]
    detail = {
        "candidates": [
            {"text": one.text, "balanced_accuracy": value}
            for one, value in zip(came, reached, strict=True)
        ],
        "firing": n[0],
        "silent": n[1],
        "failed": len(failed),
    }
    return replace(best, explainer=NAME, calls=tuple(dict.fromkeys(calls)), detail=detail)


def apart(sampled: Sampled, shown: Sequence[Example]) -> Sampled:
    """Windows of the explain split to choose by: in place of those that are scored on."""
    seen = {example.key for example in shown}
    rest = (*sampled.explain_more, *(e for e in sampled.explain if e.key not in seen))
    return replace(
        sampled,
        explain=(),
        explain_more=(),
        explain_random=(),
        explain_hard=(),
        hard=(),
        other=(),
        positives=rest[:JUDGED],
        random=sampled.explain_random[:JUDGED],
    )


async def judged(label: str, held: Sampled, tools: Tools) -> "Scored":
    """What the same language model says of a label on windows held out, by detection."""
    from autointerp.scorers import detection
    from autointerp.scorers.records import LLM
    from autointerp.scorers.records import Tools as Judging

    judging = Judging(LLM, tools.ask, seed=tools.seed, thinking=tools.thinking)
    return await detection.score(label, held, judging)


def compared(judged: Sequence[Sequence["Judged"]]) -> tuple[list[float | None], tuple[int, int]]:
    """Each candidate's balanced accuracy, and the firing and silent windows that it is of: those
    of which every candidate that was judged at all has an answer, as fewer would be more luck.

    None for a candidate that was not judged, and where a class has no such window.
    """
    answered = [{(r.sequence, r.start): r for r in rows if r.answer is not None} for rows in judged]
    some = [one for one in answered if one]
    common = set.intersection(*map(set, some)) if some else set()
    firing = sum(some[0][key].truth == 1.0 for key in common)
    n = (firing, len(common) - firing)
    return [balanced([one[k] for k in common]) if one and all(n) else None for one in answered], n


def balanced(rows: Sequence["Judged"]) -> float:
    """The mean of both classes' shares of right answers."""
    rates = []
    for truth in (1.0, 0.0):
        right = [row.answer == row.truth for row in rows if row.truth == truth]
        rates.append(sum(right) / len(right))
    return sum(rates) / 2


EXPLAINER = Explainer(
    "Best of several",
    "A language model writes several explanations; the one that tells firing windows from silent "
    "ones best, on windows held out of the explain split, is kept.",
    explain,
    frozenset(("server",)),
    beside=True,
)
