"""Fuzzing: does the label tell the tokens on which the feature fires from others?

The judge sees the label and windows with marked tokens, and says whether it fires on all of them.
Firing windows are marked truly, silent ones at random; firing windows marked wrongly are a kind of
negatives of their own, and so are, for one side of a signed feature, the tokens of the other.
Value: balanced accuracy against random silent windows.
"""

from dataclasses import dataclass

from autointerp.contexts import Sampled
from autointerp.scorers import classes
from autointerp.scorers.detection import YES
from autointerp.scorers.marks import Marks, true_marks, wrong_marks
from autointerp.scorers.questions import Verdict, dice, in_batches
from autointerp.scorers.records import LLM, PATTERN, Scored, Scorer, Tools
from autointerp.scorers.sheets import marked, sheet
from autointerp.windows import Example

NAME = "fuzzing"


@dataclass(frozen=True)
class Item:
    """A window with marks."""

    example: Example
    kind: str
    marks: Marks
    truth: bool


def items(windows: Sampled, tools: Tools) -> list[Item]:
    """True marks first, then wrong ones; the same for every label of a feature."""
    firing = windows.positives
    found = [Item(e, e.kind, true_marks(e), truth=True) for e in firing]
    if not firing:
        return found
    rolled = dice(tools, windows.feature.index)
    negatives = [(e, e.kind) for e in (*windows.random, *windows.hard)]
    for example, kind in [*negatives, *((e, classes.WRONG) for e in firing)]:
        if marks := wrong_marks(example, firing, rolled):
            found.append(Item(example, kind, marks, truth=False))
    return found + [Item(e, e.kind, true_marks(e), truth=False) for e in windows.other]


async def score(label: str, windows: Sampled, tools: Tools) -> Scored:
    """Balanced accuracy against random negatives; `hard`, `wrong tokens` and more as parts."""
    asked = items(windows, tools)
    detail: dict[str, object] = {"marks": [sorted(item.marks) for item in asked]}
    if tools.judge == PATTERN:
        verdicts, calls = by_pattern(label, asked), ()
    else:
        lines = [marked(item.example.tokens, item.marks) for item in asked]
        names = [item.example.key for item in asked]
        rolled = dice(tools, windows.feature.index)
        verdicts, calls = await in_batches(NAME, label, lines, names, tools, rolled)
        detail["prompt"] = sheet(NAME).version
    rows = [
        classes.judged(item.example, item.kind, truth=item.truth, verdict=verdict)
        for item, verdict in zip(asked, verdicts, strict=True)
    ]
    failed = sum(verdict.answer is None for verdict in verdicts)
    return classes.of_classes(NAME, rows, failed, calls, detail=detail)


def by_pattern(label: str, asked: list[Item]) -> list[Verdict]:
    """The mean over the marked tokens of what the patterns in the label say of each."""
    from autointerp.patterns.judge import where

    found = []
    for item in asked:
        each = where(label, item.example.tokens)
        share = sum(each[i] for i in item.marks) / len(item.marks)
        found.append(Verdict(float(share >= YES), float(share)))
    return found


SCORER = Scorer(
    "Fuzzing",
    "The judge sees the label and windows with marked tokens, and says where the marks are right.",
    "balanced accuracy",
    0.5,
    score,
    frozenset((PATTERN, LLM)),
)
