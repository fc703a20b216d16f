"""The detection scorer: does the label distinguish windows in which the feature fires from silent
ones?

The judge sees the label and windows as plain text, firing and silent ones in random order, and says
for each whether the feature fires in it. Value: balanced accuracy against random silent windows; a
judge that always says the same has 0.5, unlike with plain accuracy.
"""

from dataclasses import dataclass

from autointerp.contexts import FeatureSample
from autointerp.scorers import classification_scores
from autointerp.scorers.judge_requests import JudgeAnswer, judge_in_batches, make_generator
from autointerp.scorers.prompt_templates import load_score_prompt, quote_as_json
from autointerp.scorers.scorer_interface import (
    LLM_JUDGE,
    PATTERN_JUDGE,
    JudgedItem,
    LabelScore,
    Scorer,
    ScorerTools,
)
from autointerp.text_windows import TextWindow

NAME = "detection"
YES_THRESHOLD = 0.5
"""Probability from which a judge that gives probabilities says yes."""


@dataclass
class DetectionItem:
    """Window that the detection judge is asked about once, with all kinds that it belongs to."""

    example: TextWindow
    kinds: list[str]
    truth: bool


def list_detection_items(windows: FeatureSample) -> list[DetectionItem]:
    """Return the windows for detection: firing ones, then silent ones; a window that is both random
    and hard is asked about once."""
    found = [DetectionItem(e, [e.kind], truth=True) for e in windows.positives]
    silent: dict[tuple[int, int], DetectionItem] = {}
    for example in (*windows.random, *windows.hard, *windows.other):
        item = silent.setdefault(example.key, DetectionItem(example, [], truth=False))
        item.kinds.append(example.kind)
    return found + list(silent.values())


async def score(label: str, windows: FeatureSample, tools: ScorerTools) -> LabelScore:
    """Score a label by detection: balanced accuracy against random negatives, with `hard` and other
    measures as parts."""
    items = list_detection_items(windows)
    detail: dict[str, object] = {}
    if tools.judge == PATTERN_JUDGE:
        verdicts, calls = judge_by_patterns(label, [item.example for item in items]), ()
    else:
        lines = [quote_as_json(item.example.text) for item in items]
        names = [item.example.key for item in items]
        generator = make_generator(tools, windows.feature.index)
        verdicts, calls = await judge_in_batches(NAME, label, lines, names, tools, generator)
        detail["prompt"] = load_score_prompt(NAME).version
    rows: list[JudgedItem] = []
    for item, verdict in zip(items, verdicts, strict=True):
        rows += [
            classification_scores.make_judged_item(
                item.example, kind, truth=item.truth, answer=verdict
            )
            for kind in item.kinds
        ]
    failed = sum(verdict.answer is None for verdict in verdicts)
    density = classification_scores.window_density(windows)
    return classification_scores.score_classes(NAME, rows, failed, calls, density, detail)


def judge_by_patterns(label: str, examples: list[TextWindow]) -> list[JudgeAnswer]:
    """Return the detection answers of the pattern judge, which asks no model."""
    from autointerp.patterns.pattern_judge import firing_probability

    shares = [float(firing_probability(label, example)) for example in examples]
    return [JudgeAnswer(float(share >= YES_THRESHOLD), share) for share in shares]


SCORER = Scorer(
    "Detection",
    "The judge sees the label and windows, and says in which of them the feature fires.",
    "balanced accuracy",
    0.5,
    score,
    frozenset((PATTERN_JUDGE, LLM_JUDGE)),
)
