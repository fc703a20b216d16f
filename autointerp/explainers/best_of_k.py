"""Several explanations of the strongest windows, and of them the one that tells windows best.

Chosen by detection on windows of the explain split that the candidates were not written from; the
score split is not touched, so that the chosen one's score is no better for having been chosen.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from autointerp.asking.records import Failed
from autointerp.contexts import Sampled
from autointerp.explainers import max_activating, showing
from autointerp.explainers.asking import asker, said
from autointerp.explainers.records import Explained, Explainer, Tools
from autointerp.scorers.sheets import numbered
from autointerp.windows import Example

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
    texts = numbered([showing.text(e) for e in shown])
    drawn = await asyncio.gather(*(
        said(max_activating.NAME, tools, shown, temperature=TEMPERATURE, draw=n, texts=texts)
        for n in range(CANDIDATES)
    ))  # fmt: skip
    came = list({one.text: one for one in drawn if isinstance(one, Explained)}.values())
    if not came:
        return next(one for one in drawn if isinstance(one, Failed))
    held = apart(sampled, shown)
    found = await asyncio.gather(*(accuracy(one.text, held, tools) for one in came))
    reached = [value for value, _ in found]
    if all(value is None for value in reached):
        return Failed("unreadable", "None of the candidates could be judged, so none was chosen.")
    best = came[max(range(len(came)), key=lambda i: (reached[i] is not None, reached[i] or 0, -i))]
    calls = [*(key for one in drawn if isinstance(one, Explained) for key in one.calls),
             *(key for _, keys in found for key in keys)]  # fmt: skip
    detail = {
        "candidates": [
            {"text": one.text, "balanced_accuracy": value}
            for one, value in zip(came, reached, strict=True)
        ],
        "firing": len(held.positives),
        "silent": len(held.random),
        "failed": CANDIDATES - sum(isinstance(one, Explained) for one in drawn),
    }
    return replace(best, explainer=NAME, calls=tuple(dict.fromkeys(calls)), detail=detail)


def apart(sampled: Sampled, shown: Sequence[Example]) -> Sampled:
    """Windows of the explain split to choose by: in place of those that are scored on."""
    seen = {example.key for example in shown}
    rest = (*sampled.explain_more, *(e for e in sampled.explain if e.key not in seen))
    return replace(
        sampled, explain=(), explain_more=(), explain_random=(), explain_hard=(), hard=(),
        other=(), positives=rest[:JUDGED], random=sampled.explain_random[:JUDGED],
    )  # fmt: skip


async def accuracy(label: str, held: Sampled, tools: Tools) -> tuple[float | None, tuple[str, ...]]:
    """Balanced accuracy of detection by the same language model, and the keys of its calls.

    None where a class has no readable answer.
    """
    from autointerp.scorers import detection
    from autointerp.scorers.records import LLM
    from autointerp.scorers.records import Tools as Judging

    judging = Judging(LLM, tools.ask, seed=tools.seed, thinking=tools.thinking)
    scored = await detection.score(label, held, judging)
    answers = [(j.truth, j.answer) for j in scored.judged if j.answer is not None]
    rates = []
    for truth in (1.0, 0.0):
        right = [answer == truth for is_so, answer in answers if is_so == truth]
        if not right:
            return None, scored.calls
        rates.append(sum(right) / len(right))
    return sum(rates) / 2, scored.calls


EXPLAINER = Explainer(
    "Best of several",
    "A language model writes several explanations; the one that tells firing windows from silent "
    "ones best, on windows held out of the explain split, is kept.",
    explain,
    frozenset(("server",)),
    beside=True,
)
