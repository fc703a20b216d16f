"""Intruder: do windows in which a feature fires have something in common that can be seen?

Four firing windows next to each other in activation (of one or two deciles) and one silent window,
all with marks; the judge finds the silent one. Value: the share found; chance is 1 in 5. The label
is not shown: the score is the feature's own, the same for every label and every null.
"""

import asyncio
from dataclasses import dataclass

import numpy as np

from autointerp.asking.records import Failed, Reply
from autointerp.contexts import Sampled
from autointerp.scorers import classes
from autointerp.scorers.marks import Marks, true_marks, wrong_marks
from autointerp.scorers.questions import Verdict, asker, dice, form, key_of, request, share_of, sure
from autointerp.scorers.records import Judged, Scored, Scorer, Tools
from autointerp.scorers.sheets import marked, numbered, sheet
from autointerp.statistics import Answers, rate
from autointerp.windows import Example

NAME = "intruder"
GROUP = 4
"""Firing windows of a question."""
QUESTIONS = 30
"""At least so many, if there are as many intruders; each group of four is asked equally often."""


@dataclass(frozen=True)
class Question:
    """Five windows in the order shown."""

    shown: tuple[tuple[Example, Marks], ...]
    place: int
    """Index of the intruder."""
    group: int


def questions(windows: Sampled, tools: Tools) -> list[Question]:
    """Disjoint groups of four by activation, each with several intruders; an intruder once only.

    Groups are what is independent: answers about the same four windows count as one document's.
    """
    ranged = [e for e in windows.positives if e.kind != classes.TOP] or list(windows.positives)
    ranged.sort(key=lambda e: -max(map(abs, e.activations)))
    groups = [ranged[i : i + GROUP] for i in range(0, len(ranged) - GROUP + 1, GROUP)]
    rolled = dice(tools, windows.feature.index)
    intruders = [windows.random[i] for i in rolled.permutation(len(windows.random)).tolist()]
    found: list[Question] = []
    while groups and len(found) < QUESTIONS and len(intruders) >= len(groups):
        for number, group in enumerate(groups):
            intruder = intruders.pop()
            marks = wrong_marks(intruder, group, rolled)
            if marks is not None:
                found.append(arranged(group, (intruder, marks), number, rolled))
    return found


def arranged(
    group: list[Example], intruder: tuple[Example, Marks], number: int, dice: np.random.Generator
) -> Question:
    """The five in random order."""
    five = [*((e, true_marks(e)) for e in group), intruder]
    order = dice.permutation(len(five)).tolist()
    return Question(tuple(five[i] for i in order), order.index(GROUP), number)


async def score(label: str, windows: Sampled, tools: Tools) -> Scored:
    """The share of intruders found."""
    ask, asked = asker(tools, NAME), questions(windows, tools)
    schema = form("intruder", {"type": "integer", "minimum": 1, "maximum": GROUP + 1})
    requests = []
    for question in asked:
        items = numbered([marked(e.tokens, marks) for e, marks in question.shown])
        prompt = sheet(NAME).fill(n=GROUP + 1, most=GROUP, items=items)
        requests.append(request(prompt, schema, NAME, tools))
    replies = await asyncio.gather(*map(ask.ask, requests))
    rows = [judged(*pair) for pair in zip(asked, replies, strict=True)]
    good = [(q, row) for q, row in zip(asked, rows, strict=True) if row.answer is not None]
    hits = Answers.of([row.answer == 1.0 for _, row in good], [q.group for q, _ in good])
    detail = {
        "prompt": sheet(NAME).version,
        "shown": [[e.key for e, _ in question.shown] for question in asked],
    }
    calls = tuple(key_of(ask, one) for one in requests)
    failed = len(rows) - len(good)
    return Scored(NAME, "share found", rate(hits), {}, tuple(rows), failed, calls, detail)


def judged(question: Question, reply: Reply | Failed) -> Judged:
    """Whether the intruder was found, and how sure the judge was of it."""
    verdict = read(reply, question.place + 1)
    intruder = question.shown[question.place][0]
    return Judged(
        intruder.sequence,
        intruder.start,
        intruder.document,
        "intruder",
        1.0,
        verdict.answer,
        verdict.probability,
        verdict.failed,
    )


def read(reply: Reply | Failed, right: int) -> Verdict:
    """1 if the reply names the right number, else 0."""
    if isinstance(reply, Failed):
        return Verdict(None, failed=reply.kind)
    said = reply.parsed["intruder"]
    shares = sure(reply, [str(number) for number in range(1, GROUP + 2)], [said])
    return Verdict(float(said == right), share_of(shares, 0, str(right)))


SCORER = Scorer(
    "Intruder",
    "Finds the silent window among four firing ones, without a label: is there anything to see?",
    "share found",
    1 / (GROUP + 1),
    score,
    shows_label=False,
)
