"""Generation: do texts that are written from the label make the feature fire?

A language model writes texts for the label, or its patterns are put into silent windows; the
feature's own model reads them. Value: the share in which the feature's peak lies above the lowest
tenth of its firing windows. A window of the corpus does so with a probability of 0.9 · its window
density, which is the chance to be compared with.
"""

import asyncio

import numpy as np

from autointerp.asking.records import Failed
from autointerp.contexts import Sampled
from autointerp.scorers.classes import window_density
from autointerp.scorers.questions import asker, dice, form, key_of, request
from autointerp.scorers.ranking import BROKEN
from autointerp.scorers.records import LLM, PATTERN, Judged, Scored, Scorer, Tools
from autointerp.scorers.sheets import quoted, sheet
from autointerp.statistics import Answers, Estimate, rate
from feature_store.errors import InputError
from feature_store.strata import decile

NAME = "generation"
CALLS, TEXTS = 5, 5
"""Calls, and texts asked for in each: one call may fail and 20 texts are left."""
PER_TEXT = 120
TEMPERATURE = 1.0
WRITTEN = "written"


async def score(label: str, windows: Sampled, tools: Tools) -> Scored:
    """The share of texts above the lowest decile; `fires` (above 0) as a part."""
    if tools.judge != PATTERN:
        asker(tools, NAME)  # before the model works
    if tools.activates is None:
        raise InputError(f"The scorer {NAME!r} needs the model whose feature it is.")
    detail: dict[str, object] = {"window density": window_density(windows)}
    calls: tuple[str, ...] = ()
    if tools.judge == PATTERN:
        batches = by_pattern(label, windows, tools)
    else:
        batches, calls = await by_model(label, tools)
        detail["prompt"] = sheet(NAME).version
    texts = [
        (call, text)
        for call, batch in enumerate(batches)
        if not isinstance(batch, Failed)
        for text in batch
    ]
    peaks = np.zeros(0)
    if texts:
        found = await tools.activates(windows.feature, [text for _, text in texts])
        peaks = np.asarray(found, np.float64)
    rows = [row(windows, call, peak) for (call, _), peak in zip(texts, peaks, strict=True)]
    value, fires = shares(rows, peaks)
    rows += [
        Judged(-1, -1, call, WRITTEN, 1.0, None, failed=batch.kind)
        for call, batch in enumerate(batches)
        if isinstance(batch, Failed)
        for _ in range(TEXTS)
    ]
    detail["texts"] = [text for _, text in texts]
    detail["activations"] = [float(p) if np.isfinite(p) else None for p in peaks]
    failed = sum(one.answer is None for one in rows)
    parts = {"fires": fires}
    return Scored(NAME, "share that fires", value, parts, tuple(rows), failed, calls, detail)


def by_pattern(label: str, windows: Sampled, tools: Tools) -> list[list[str] | Failed]:
    """Texts with the label's patterns in silent windows; each counts as a batch of its own."""
    from autointerp.scorers.patterned import written

    rolled = dice(tools, windows.feature.index)
    return [[text] for text in written(label, windows.random, CALLS * TEXTS, rolled)]


async def by_model(label: str, tools: Tools) -> tuple[list[list[str] | Failed], tuple[str, ...]]:
    """Texts that a language model writes, call by call, and the requests' keys."""
    ask = asker(tools, NAME)
    prompt = sheet(NAME).fill(label=quoted(label), n=TEXTS)
    items = {"type": "string"}
    schema = form("texts", {"type": "array", "items": items, "minItems": TEXTS, "maxItems": TEXTS})
    requests = [
        request(
            prompt,
            schema,
            NAME,
            tools,
            max_tokens=TEXTS * PER_TEXT,
            logprobs=0,
            temperature=TEMPERATURE,
            draw=draw,
        )
        for draw in range(1, CALLS + 1)
    ]
    replies = await asyncio.gather(*map(ask.ask, requests))
    batches = [one if isinstance(one, Failed) else read(one.parsed["texts"]) for one in replies]
    return batches, tuple(key_of(ask, one) for one in requests)


def read(texts: list[str]) -> list[str] | Failed:
    """The texts of a reply; one that is empty spoils it."""
    return texts if all(text.strip() for text in texts) else Failed("empty", "A text is empty.")


def row(windows: Sampled, call: int, peak: float) -> Judged:
    """A text: 1 where the feature's peak in it lies above the lowest decile."""
    if not np.isfinite(peak):
        return Judged(-1, -1, call, WRITTEN, 1.0, None, failed=BROKEN)
    above = peak != 0 and decile(windows.facts, float(peak)) > 1
    return Judged(-1, -1, call, WRITTEN, 1.0, float(above))


def shares(rows: list[Judged], peaks: np.ndarray) -> tuple[Estimate, Estimate]:
    """Of the texts above the lowest decile, and of those that fire at all; texts of one call go
    together. The first rows are those of `peaks`."""
    good = [(one, peak) for one, peak in zip(rows, peaks, strict=False) if one.answer is not None]
    calls = [one.document for one, _ in good]
    above = Answers.of([one.answer == 1.0 for one, _ in good], calls)
    return rate(above), rate(Answers.of([bool(peak) for _, peak in good], calls))


SCORER = Scorer(
    "Generation",
    "Texts are written from the label; the value is the share that makes the feature fire.",
    "share that fires",
    None,
    score,
    frozenset((PATTERN, LLM)),
    needs=frozenset(("model",)),
)
