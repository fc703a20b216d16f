"""The intruder scorer: do the windows in which a feature fires have anything visible in common?

Four firing windows of similar activation (from one or two deciles) and one silent window, the
intruder, are shown with marks; the judge has to find the intruder. Value: the share found; chance
is 1 in 5. The label is not shown: the score belongs to the feature, and is the same for every label
and baseline label.
"""

import asyncio
from dataclasses import dataclass

import numpy as np

from autointerp.contexts import FeatureSample
from autointerp.llm.requests_and_replies import Reply, RequestFailure
from autointerp.scorers import classification_scores
from autointerp.scorers.judge_requests import (
    JudgeAnswer,
    make_generator,
    make_judge_request,
    object_schema,
    option_share,
    read_option_shares,
    request_key,
    require_asker,
)
from autointerp.scorers.prompt_templates import load_score_prompt, mark_tokens, number_lines
from autointerp.scorers.scorer_interface import JudgedItem, LabelScore, Scorer, ScorerTools
from autointerp.scorers.token_marks import TokenMarks, true_marks, wrong_marks
from autointerp.text_windows import TextWindow
from feature_store.statistics import ClassAnswers, answer_rate

NAME = "intruder"
FIRING_PER_QUESTION = 4
"""Number of firing windows in an intruder question."""
MIN_QUESTIONS = 30
"""Minimum number of intruder questions, if there are enough intruders; each group of four is asked
about equally often."""


@dataclass(frozen=True)
class IntruderQuestion:
    """Five windows in the order shown, one of which is the silent intruder."""

    shown: tuple[tuple[TextWindow, TokenMarks], ...]
    place: int
    """Index of the intruder among the five windows."""
    group: int


def make_intruder_questions(windows: FeatureSample, tools: ScorerTools) -> list[IntruderQuestion]:
    """Return intruder questions: disjoint groups of four firing windows by activation, each with
    several intruders; every intruder is used once.

    Groups are independent; answers about the same four windows count as those of one document.
    """
    ranged = [e for e in windows.positives if e.kind != classification_scores.TOP] or list(
        windows.positives
    )
    # groups of neighbours in activation, so that strength alone does not reveal the intruder
    ranged.sort(key=lambda e: -max(map(abs, e.activations)))
    groups = [
        ranged[i : i + FIRING_PER_QUESTION]
        for i in range(0, len(ranged) - FIRING_PER_QUESTION + 1, FIRING_PER_QUESTION)
    ]
    generator = make_generator(tools, windows.feature.index)
    intruders = [windows.random[i] for i in generator.permutation(len(windows.random)).tolist()]
    found: list[IntruderQuestion] = []
    while groups and len(found) < MIN_QUESTIONS and len(intruders) >= len(groups):
        for number, group in enumerate(groups):
            intruder = intruders.pop()
            marks = wrong_marks(intruder, group, generator)
            if marks is not None:
                found.append(shuffle_question(group, (intruder, marks), number, generator))
    return found


def shuffle_question(
    group: list[TextWindow],
    intruder: tuple[TextWindow, TokenMarks],
    number: int,
    generator: np.random.Generator,
) -> IntruderQuestion:
    """Return an intruder question with its five windows in random order."""
    shown_windows = [*((e, true_marks(e)) for e in group), intruder]
    order = generator.permutation(len(shown_windows)).tolist()
    return IntruderQuestion(
        tuple(shown_windows[i] for i in order), order.index(FIRING_PER_QUESTION), number
    )


async def score(label: str, windows: FeatureSample, tools: ScorerTools) -> LabelScore:
    """Score a feature by the share of intruders that the judge finds."""
    ask, questions = require_asker(tools, NAME), make_intruder_questions(windows, tools)
    schema = object_schema(
        "intruder", {"type": "integer", "minimum": 1, "maximum": FIRING_PER_QUESTION + 1}
    )
    requests = []
    for question in questions:
        items = number_lines([mark_tokens(e.tokens, marks) for e, marks in question.shown])
        prompt = load_score_prompt(NAME).fill(
            n=FIRING_PER_QUESTION + 1, most=FIRING_PER_QUESTION, items=items
        )
        requests.append(make_judge_request(prompt, schema, NAME, tools))
    replies = await asyncio.gather(*map(ask.ask, requests))
    rows = [judge_question(*pair) for pair in zip(questions, replies, strict=True)]
    answered = [(q, row) for q, row in zip(questions, rows, strict=True) if row.answer is not None]
    hits = ClassAnswers.of(
        [row.answer == 1.0 for _, row in answered], [q.group for q, _ in answered]
    )
    detail = {
        "prompt": load_score_prompt(NAME).version,
        "shown": [[e.key for e, _ in question.shown] for question in questions],
    }
    calls = tuple(request_key(ask, one) for one in requests)
    failed = len(rows) - len(answered)
    return LabelScore(
        NAME, "share found", answer_rate(hits), {}, tuple(rows), failed, calls, detail
    )


def judge_question(question: IntruderQuestion, reply: Reply | RequestFailure) -> JudgedItem:
    """Return whether the judge found the intruder, and its probability for the right answer."""
    verdict = read_intruder(reply, question.place + 1)
    intruder = question.shown[question.place][0]
    return JudgedItem(
        intruder.sequence,
        intruder.start,
        intruder.document,
        "intruder",
        1.0,
        verdict.answer,
        verdict.probability,
        verdict.failed,
    )


def read_intruder(reply: Reply | RequestFailure, right: int) -> JudgeAnswer:
    """Return 1 if the reply names the number of the intruder, otherwise 0."""
    if isinstance(reply, RequestFailure):
        return JudgeAnswer(None, failed=reply.kind)
    named = reply.parsed["intruder"]
    shares = read_option_shares(
        reply, [str(number) for number in range(1, FIRING_PER_QUESTION + 2)], [named]
    )
    return JudgeAnswer(float(named == right), option_share(shares, 0, str(right)))


SCORER = Scorer(
    "Intruder",
    "The judge, without a label, finds the silent window among four firing ones.",
    "share found",
    1 / (FIRING_PER_QUESTION + 1),
    score,
    shows_label=False,
)
