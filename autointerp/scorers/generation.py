"""Generation: do texts that are written from the label make the feature fire?

A language model writes texts for the label; the feature's own model reads them. Value: the share in
which the feature's peak lies above the lowest tenth of its firing windows. A window of the corpus
does so with a probability of 0.9 · its window density, which is the chance to be compared with.
"""

import asyncio

import numpy as np

from autointerp.asking.records import Failed
from autointerp.contexts import Sampled
from autointerp.scorers.classes import window_density
from autointerp.scorers.questions import asker, form, key_of, request
from autointerp.scorers.ranking import BROKEN
from autointerp.scorers.records import Judged, Scored, Scorer, Tools
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
    ask = asker(tools, NAME)
    if tools.activates is None:
        raise InputError(f"The scorer {NAME!r} needs the model whose feature it is.")
    prompt = sheet(NAME).fill(label=quoted(label), n=TEXTS)
    items = {"type": "string", "minLength": 1}
    schema = form("texts", {"type": "array", "items": items, "minItems": TEXTS, "maxItems": TEXTS})
    requests = [
        request(
            prompt, schema, NAME, tools, max_tokens=TEXTS * PER_TEXT, logprobs=0,
            temperature=TEMPERATURE, draw=draw,
        )
        for draw in range(1, CALLS + 1)
    ]  # fmt: skip
    replies = await asyncio.gather(*map(ask.ask, requests))
    written = [
        (call, text)
        for call, reply in enumerate(replies)
        if not isinstance(reply, Failed)
        for text in reply.parsed["texts"]
    ]
    texts = [text for _, text in written]
    peaks = np.zeros(0)
    if texts:
        peaks = np.asarray(await tools.activates(windows.feature, texts), np.float64)
    rows = [row(windows, call, peak) for (call, _), peak in zip(written, peaks, strict=True)]
    detail = {
        "prompt": sheet(NAME).version, "window density": window_density(windows), "texts": texts,
        "activations": [float(p) if np.isfinite(p) else None for p in peaks],
    }  # fmt: skip
    rows += [
        Judged(-1, -1, call, WRITTEN, 1.0, None, failed=reply.kind)
        for call, reply in enumerate(replies)
        if isinstance(reply, Failed)
        for _ in range(TEXTS)
    ]
    value, fires = shares(rows, peaks)
    calls = tuple(key_of(ask, one) for one in requests)
    failed = sum(one.answer is None for one in rows)
    return Scored(
        NAME, "share that fires", value, {"fires": fires}, tuple(rows), failed, calls, detail
    )


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
    "A language model writes texts from the label; the value is the share that makes it fire.",
    "share that fires",
    None,
    score,
    needs=frozenset(("model",)),
)
