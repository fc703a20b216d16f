"""Detection: does the label tell windows in which the feature fires from silent ones?

The judge sees the label and windows as plain text, firing and silent ones mixed at random, and says
of each whether the feature fires in it. Value: balanced accuracy against random silent windows; a
judge that says the same of all has 0.5, unlike with plain accuracy.
"""

from dataclasses import dataclass

from autointerp.contexts import Sampled
from autointerp.scorers import classes
from autointerp.scorers.questions import Verdict, dice, in_batches
from autointerp.scorers.records import LLM, PATTERN, Judged, Scored, Scorer, Tools
from autointerp.scorers.sheets import quoted, sheet
from autointerp.windows import Example

NAME = "detection"
YES = 0.5
"""From this probability on a judge that gives probabilities says yes."""


@dataclass
class Item:
    """A window to be judged once, and every kind that it is."""

    example: Example
    kinds: list[str]
    truth: bool


def items(windows: Sampled) -> list[Item]:
    """Firing windows, then silent ones; one that is both random and hard is asked once."""
    found = [Item(e, [e.kind], truth=True) for e in windows.positives]
    silent: dict[tuple[int, int], Item] = {}
    for example in (*windows.random, *windows.hard, *windows.other):
        item = silent.setdefault(example.key, Item(example, [], truth=False))
        item.kinds.append(example.kind)
    return found + list(silent.values())


async def score(label: str, windows: Sampled, tools: Tools) -> Scored:
    """Balanced accuracy against random negatives; `hard` and all else among the parts."""
    asked = items(windows)
    detail: dict[str, object] = {}
    if tools.judge == PATTERN:
        verdicts, calls = by_pattern(label, [item.example for item in asked]), ()
    else:
        lines = [quoted(item.example.text) for item in asked]
        names = [item.example.key for item in asked]
        rolled = dice(tools, windows.feature.index)
        verdicts, calls = await in_batches(NAME, label, lines, names, tools, rolled)
        detail["prompt"] = sheet(NAME).version
    rows: list[Judged] = []
    for item, verdict in zip(asked, verdicts, strict=True):
        rows += [
            classes.judged(item.example, kind, truth=item.truth, verdict=verdict)
            for kind in item.kinds
        ]
    failed = sum(verdict.answer is None for verdict in verdicts)
    density = classes.window_density(windows)
    return classes.of_classes(NAME, rows, failed, calls, density, detail)


def by_pattern(label: str, examples: list[Example]) -> list[Verdict]:
    """What the patterns in the label say; no model is asked."""
    from autointerp.patterns.judge import fires

    shares = [float(fires(label, example)) for example in examples]
    return [Verdict(float(share >= YES), share) for share in shares]


SCORER = Scorer(
    "Detection",
    "The judge sees the label and windows, and says in which of them the feature fires.",
    "balanced accuracy",
    0.5,
    score,
    frozenset((PATTERN, LLM)),
)
