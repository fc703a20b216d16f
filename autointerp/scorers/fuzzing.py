"""The fuzzing scorer: does the label distinguish the tokens on which the feature fires from others?

The judge sees the label and windows with marked tokens, and says whether the feature fires on all
marked tokens. Firing windows are marked correctly, silent ones at random; firing windows with wrong
marks are negatives of their own kind, as are, for one sign of a signed feature, the tokens of the
other sign. Value: balanced accuracy against random silent windows.
"""

from dataclasses import dataclass

from autointerp.contexts import FeatureSample
from autointerp.scorers import classification_scores
from autointerp.scorers.detection import YES_THRESHOLD
from autointerp.scorers.judge_requests import JudgeAnswer, judge_in_batches, make_generator
from autointerp.scorers.prompt_templates import load_score_prompt, mark_tokens
from autointerp.scorers.scorer_interface import (
    LLM_JUDGE,
    PATTERN_JUDGE,
    LabelScore,
    Scorer,
    ScorerTools,
)
from autointerp.scorers.token_marks import TokenMarks, true_marks, wrong_marks
from autointerp.text_windows import TextWindow

NAME = "fuzzing"


@dataclass(frozen=True)
class FuzzingItem:
    """Window with marked tokens that the fuzzing judge is asked about."""

    example: TextWindow
    kind: str
    marks: TokenMarks
    truth: bool


def list_fuzzing_items(windows: FeatureSample, tools: ScorerTools) -> list[FuzzingItem]:
    """Return the marked windows for fuzzing: correct marks first, then wrong ones; the same for
    every label of a feature."""
    firing = windows.positives
    found = [FuzzingItem(e, e.kind, true_marks(e), truth=True) for e in firing]
    if not firing:
        return found
    generator = make_generator(tools, windows.feature.index)
    negatives = [(e, e.kind) for e in (*windows.random, *windows.hard)]
    for example, kind in [*negatives, *((e, classification_scores.WRONG_TOKENS) for e in firing)]:
        if marks := wrong_marks(example, firing, generator):
            found.append(FuzzingItem(example, kind, marks, truth=False))
    return found + [FuzzingItem(e, e.kind, true_marks(e), truth=False) for e in windows.other]


async def score(label: str, windows: FeatureSample, tools: ScorerTools) -> LabelScore:
    """Score a label by fuzzing: balanced accuracy against random negatives, with `hard`, `wrong
    tokens` and other measures as parts."""
    items = list_fuzzing_items(windows, tools)
    detail: dict[str, object] = {"marks": [sorted(item.marks) for item in items]}
    if tools.judge == PATTERN_JUDGE:
        verdicts, calls = judge_marks_by_patterns(label, items), ()
    else:
        lines = [mark_tokens(item.example.tokens, item.marks) for item in items]
        names = [item.example.key for item in items]
        generator = make_generator(tools, windows.feature.index)
        verdicts, calls = await judge_in_batches(NAME, label, lines, names, tools, generator)
        detail["prompt"] = load_score_prompt(NAME).version
    rows = [
        classification_scores.make_judged_item(
            item.example, item.kind, truth=item.truth, answer=verdict
        )
        for item, verdict in zip(items, verdicts, strict=True)
    ]
    failed = sum(verdict.answer is None for verdict in verdicts)
    return classification_scores.score_classes(NAME, rows, failed, calls, detail=detail)


def judge_marks_by_patterns(label: str, items: list[FuzzingItem]) -> list[JudgeAnswer]:
    """Return the fuzzing answers of the pattern judge: the mean over the marked tokens of their
    predicted probability to fire."""
    from autointerp.patterns.pattern_judge import token_firing_probabilities

    found = []
    for item in items:
        probabilities = token_firing_probabilities(label, item.example.tokens)
        mean_probability = sum(probabilities[i] for i in item.marks) / len(item.marks)
        found.append(JudgeAnswer(float(mean_probability >= YES_THRESHOLD), float(mean_probability)))
    return found


SCORER = Scorer(
    "Fuzzing",
    "The judge sees the label and windows with marked tokens, and says where the marks are right.",
    "balanced accuracy",
    0.5,
    score,
    frozenset((PATTERN_JUDGE, LLM_JUDGE)),
)
