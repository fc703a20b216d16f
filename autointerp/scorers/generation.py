"""The generation scorer: do texts that are written from the label make the feature fire?

A language model writes texts for the label, or the label's patterns are inserted into silent
windows; the feature's own model reads them. Value: the share of texts in which the feature's peak
is above the lowest tenth of its firing windows. A window of the corpus reaches that with a
probability of 0.9 · its window density, which is the chance level for comparison.
"""

import asyncio

import numpy as np

from autointerp.contexts import FeatureSample
from autointerp.llm.requests_and_replies import RequestFailure
from autointerp.scorers.auc_scores import NOT_FINITE
from autointerp.scorers.classification_scores import window_density
from autointerp.scorers.judge_requests import (
    make_generator,
    make_judge_request,
    object_schema,
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
)
from feature_store.context_strata import find_decile
from feature_store.errors import InputError
from feature_store.statistics import ClassAnswers, Estimate, answer_rate

NAME = "generation"
GENERATION_CALLS, TEXTS_PER_CALL = 5, 5
"""Number of calls, and of texts requested in each: one call may fail and 20 texts are left."""
TOKENS_PER_TEXT = 120
TEMPERATURE = 1.0
WRITTEN = "written"


async def score(label: str, windows: FeatureSample, tools: ScorerTools) -> LabelScore:
    """Score a label by generation: the share of texts written from it in which the feature's peak
    is above the lowest decile of its firing windows, with `fires` (above 0) as a part."""
    if tools.judge != PATTERN_JUDGE:
        require_asker(tools, NAME)  # fails before the model computes anything
    if tools.activates is None:
        raise InputError(f"The scorer {NAME!r} needs the model whose feature it is.")
    detail: dict[str, object] = {"window density": window_density(windows)}
    calls: tuple[str, ...] = ()
    if tools.judge == PATTERN_JUDGE:
        batches = write_from_patterns(label, windows, tools)
    else:
        batches, calls = await write_with_model(label, tools)
        detail["prompt"] = load_score_prompt(NAME).version
    texts = [
        (call, text)
        for call, batch in enumerate(batches)
        if not isinstance(batch, RequestFailure)
        for text in batch
    ]
    peaks = np.zeros(0)
    if texts:
        found = await tools.activates(windows.feature, [text for _, text in texts])
        peaks = np.asarray(found, np.float64)
    rows = [
        judge_written_text(windows, call, peak)
        for (call, _), peak in zip(texts, peaks, strict=True)
    ]
    value, fires = firing_shares(rows, peaks)
    rows += [
        JudgedItem(-1, -1, call, WRITTEN, 1.0, None, failed=batch.kind)
        for call, batch in enumerate(batches)
        if isinstance(batch, RequestFailure)
        for _ in range(TEXTS_PER_CALL)
    ]
    detail["texts"] = [text for _, text in texts]
    detail["activations"] = [float(p) if np.isfinite(p) else None for p in peaks]
    failed = sum(one.answer is None for one in rows)
    parts = {"fires": fires}
    return LabelScore(NAME, "share that fires", value, parts, tuple(rows), failed, calls, detail)


def write_from_patterns(
    label: str, windows: FeatureSample, tools: ScorerTools
) -> list[list[str] | RequestFailure]:
    """Generate texts by inserting the label's patterns into silent windows; each text is a batch of
    its own."""
    from autointerp.scorers.pattern_texts import write_pattern_texts

    generator = make_generator(tools, windows.feature.index)
    return [
        [text]
        for text in write_pattern_texts(
            label, windows.random, GENERATION_CALLS * TEXTS_PER_CALL, generator
        )
    ]


async def write_with_model(
    label: str, tools: ScorerTools
) -> tuple[list[list[str] | RequestFailure], tuple[str, ...]]:
    """Generate texts for a label with a language model; return them call by call, with the keys of
    the requests."""
    ask = require_asker(tools, NAME)
    prompt = load_score_prompt(NAME).fill(label=quote_as_json(label), n=TEXTS_PER_CALL)
    items = {"type": "string"}
    schema = object_schema(
        "texts",
        {"type": "array", "items": items, "minItems": TEXTS_PER_CALL, "maxItems": TEXTS_PER_CALL},
    )
    requests = [
        make_judge_request(
            prompt,
            schema,
            NAME,
            tools,
            max_tokens=TEXTS_PER_CALL * TOKENS_PER_TEXT,
            logprobs=0,
            temperature=TEMPERATURE,
            draw=draw,
        )
        for draw in range(1, GENERATION_CALLS + 1)
    ]
    replies = await asyncio.gather(*map(ask.ask, requests))
    batches = [
        one if isinstance(one, RequestFailure) else read_written_texts(one.parsed["texts"])
        for one in replies
    ]
    return batches, tuple(request_key(ask, one) for one in requests)


def read_written_texts(texts: list[str]) -> list[str] | RequestFailure:
    """Return the generated texts of a reply; an empty one makes the whole reply a failure."""
    return (
        texts
        if all(text.strip() for text in texts)
        else RequestFailure("empty", "A text is empty.")
    )


def judge_written_text(windows: FeatureSample, call: int, peak: float) -> JudgedItem:
    """Return a generated text as a judged item: 1 where the feature's peak in it is above the
    lowest decile."""
    if not np.isfinite(peak):
        return JudgedItem(-1, -1, call, WRITTEN, 1.0, None, failed=NOT_FINITE)
    above = peak != 0 and find_decile(windows.facts, float(peak)) > 1
    return JudgedItem(-1, -1, call, WRITTEN, 1.0, float(above))


def firing_shares(rows: list[JudgedItem], peaks: np.ndarray) -> tuple[Estimate, Estimate]:
    """Return the share of generated texts above the lowest decile, and of those that fire at all;
    texts of one call are treated as one cluster.

    `peaks` [texts] are the feature's largest activations in the texts of the first `rows`.
    """
    answered = [
        (one, peak) for one, peak in zip(rows, peaks, strict=False) if one.answer is not None
    ]
    calls = [one.document for one, _ in answered]
    above = ClassAnswers.of([one.answer == 1.0 for one, _ in answered], calls)
    return answer_rate(above), answer_rate(
        ClassAnswers.of([bool(peak) for _, peak in answered], calls)
    )


SCORER = Scorer(
    "Generation",
    "Texts are written from the label; the value is the share in which the feature fires.",
    "share that fires",
    None,
    score,
    frozenset((PATTERN_JUDGE, LLM_JUDGE)),
    needs=frozenset(("model",)),
)
