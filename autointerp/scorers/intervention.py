"""The intervention scorer: does steering by the feature make the model write what the label says?

The model continues prompts unsteered and steered by the feature at a KL divergence of 1 nat at the
next token; the judge sees both continuations and picks the one that shows more of the label. Each
pair is asked about in both orders, so a judge that always says A has one half. Value: the share of
answers that pick the steered text; pairs that missed the KL are left out and counted as failed.
"""

import asyncio
import math
from collections.abc import Sequence

from autointerp.contexts import FeatureSample
from autointerp.llm.requests_and_replies import Reply, RequestFailure
from autointerp.scorers.judge_requests import (
    JudgeAnswer,
    make_judge_request,
    object_schema,
    option_share,
    read_option_shares,
    request_key,
    require_asker,
)
from autointerp.scorers.prompt_templates import load_score_prompt, quote_as_json
from autointerp.scorers.scorer_interface import (
    LLM_JUDGE,
    PATTERN_JUDGE,
    JudgedItem,
    LabelScore,
    Scorer,
    ScorerTools,
    SteeredPair,
)
from feature_store.errors import InputError
from feature_store.statistics import ClassAnswers, Estimate, answer_rate, mean_by_document

NAME = "intervention"
PROMPT_PAIRS = 20
"""Number of prompts that are continued."""
TARGET_KL, KL_TOLERANCE = 1.0, 0.1
"""Target KL divergence and its tolerance, in nats."""
MISSED_KL = "KL missed"
MIN_PROBABILITY = 1e-4
"""Probabilities are clipped to this distance from 0 and 1: less likely candidates are not
listed."""
LETTERS = ("A", "B")


async def score(label: str, windows: FeatureSample, tools: ScorerTools) -> LabelScore:
    """Score a label by intervention: the share of answers that pick the steered text, with `log
    odds` as a part."""
    if tools.judge != PATTERN_JUDGE:
        require_asker(tools, NAME)  # fails before the model computes anything
    if tools.steers is None:
        raise InputError(f"The scorer {NAME!r} needs the model whose feature it is.")
    pairs = await tools.steers(windows.feature, PROMPT_PAIRS)
    questions = [
        (i, first)
        for i, pair in enumerate(pairs)
        if reached_target_kl(pair)
        for first in (True, False)
    ]
    shown = [(pairs[i], first) for i, first in questions]
    calls: tuple[str, ...] = ()
    if tools.judge == PATTERN_JUDGE:
        verdicts = [pick_by_patterns(label, pair, steered_first=first) for pair, first in shown]
    else:
        verdicts, calls = await pick_with_model(label, shown, tools)
    rows = [
        JudgedItem(
            -1, -1, i, f"steered {LETTERS[not first]}", 1.0, v.answer, v.probability, v.failed
        )
        for (i, first), v in zip(questions, verdicts, strict=True)
    ]
    missed = [i for i, pair in enumerate(pairs) if not reached_target_kl(pair)]
    rows += [JudgedItem(-1, -1, i, "steered", 1.0, None, failed=MISSED_KL) for i in missed]
    answered = [row for row in rows if row.answer is not None]
    value = answer_rate(
        ClassAnswers.of([row.answer == 1.0 for row in answered], [row.document for row in answered])
    )
    detail: dict[str, object] = {"pairs": [vars(pair) for pair in pairs]}
    if tools.judge != PATTERN_JUDGE:
        detail["prompt"] = load_score_prompt(NAME).version
    parts = {"log odds": mean_log_odds(answered)}
    failed = len(rows) - len(answered)
    return LabelScore(NAME, "steered picked", value, parts, tuple(rows), failed, calls, detail)


def reached_target_kl(pair: SteeredPair) -> bool:
    """Return whether a steered pair of the intervention scorer was generated at the target KL
    divergence."""
    return abs(pair.kl - TARGET_KL) <= KL_TOLERANCE


def pick_by_patterns(label: str, pair: SteeredPair, *, steered_first: bool) -> JudgeAnswer:
    """Return the pattern judge's pick between the texts with and without intervention: 1 if the
    label's patterns occur more in the steered one.

    Where they occur equally often, the first text is picked, so that a pair without a difference
    has one half.
    """
    from autointerp.scorers.pattern_texts import label_share

    more = label_share(label, pair.steered) - label_share(label, pair.clean)
    return JudgeAnswer(float(more > 0 or (more == 0 and steered_first)))


async def pick_with_model(
    label: str, shown: Sequence[tuple[SteeredPair, bool]], tools: ScorerTools
) -> tuple[list[JudgeAnswer], tuple[str, ...]]:
    """Return a language model's pick between the texts with and without intervention for each pair,
    and the keys of the requests."""
    ask = require_asker(tools, NAME)
    schema = object_schema("answer", {"type": "string", "enum": list(LETTERS)})
    requests = [
        make_judge_request(make_pair_prompt(label, pair, steered_first=first), schema, NAME, tools)
        for pair, first in shown
    ]
    replies = await asyncio.gather(*map(ask.ask, requests))
    verdicts = [
        read_pick(reply, LETTERS[not first])
        for (_, first), reply in zip(shown, replies, strict=True)
    ]
    return verdicts, tuple(dict.fromkeys(request_key(ask, one) for one in requests))


def make_pair_prompt(label: str, pair: SteeredPair, *, steered_first: bool) -> str:
    """Return the intervention prompt that shows a steered and an unsteered text as A and B."""
    texts = (pair.steered, pair.clean) if steered_first else (pair.clean, pair.steered)
    lines = [f"Beginning: {quote_as_json(pair.prompt)}"]
    lines += [
        f"{letter}: {quote_as_json(text)}" for letter, text in zip(LETTERS, texts, strict=True)
    ]
    return load_score_prompt(NAME).fill(label=quote_as_json(label), items="\n".join(lines))


def read_pick(reply: Reply | RequestFailure, steered: str) -> JudgeAnswer:
    """Return 1 if the judge's reply picks the text with the intervention, otherwise 0."""
    if isinstance(reply, RequestFailure):
        return JudgeAnswer(None, failed=reply.kind)
    picked = reply.parsed["answer"]
    shares = read_option_shares(reply, LETTERS, [picked])
    return JudgeAnswer(float(picked == steered), option_share(shares, 0, steered))


def mean_log_odds(rows: Sequence[JudgedItem]) -> Estimate:
    """Return the intervention score in log odds: mean nats by which the steered text shows the
    label; each pair counts once, if both orders have probabilities."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row.probability is not None:
            p = min(max(row.probability, MIN_PROBABILITY), 1 - MIN_PROBABILITY)
            found.setdefault(row.document, []).append(math.log(p / (1 - p)))
    both = {pair: sum(odds) / 2 for pair, odds in found.items() if len(odds) == len(LETTERS)}
    if rows and not found:
        return Estimate.none(0, 0, "the judge gives no probabilities")
    return mean_by_document(list(both.values()), list(both))


SCORER = Scorer(
    "Intervention",
    "The model is steered by the feature at 1 nat; the judge picks the text that shows the label.",
    "steered picked",
    0.5,
    score,
    frozenset((PATTERN_JUDGE, LLM_JUDGE)),
    needs=frozenset(("model",)),
)
