"""Measure how many tokens a second a loaded model reads and writes, in about a second."""

import time
from contextlib import suppress

import torch

from backend.generation.prompts import Start
from backend.generation.records import Row, Sampling, Token
from backend.generation.stream import Extras, generate
from backend.lm import Lm
from feature_store.errors import InputError
from feature_store.model_speeds import ModelSpeed, ModelSpeeds

ENOUGH_S, SLOW_S = 0.3, 2.0
"""A pass of FEWEST_TOKENS or more that took ENOUGH_S can be told from noise; after one that took
SLOW_S no longer one is tried."""
FEWEST_TOKENS, MOST_TOKENS = 128, 512
"""Tokens of a pass that is measured: short ones pay for reading the weights, not for tokens."""
BATCH = 8
"""Texts that are written at once."""
STEPS = 4
"""New tokens of each of them that are timed."""


def measure_model_speed(lm: Lm) -> ModelSpeed:
    """Read ever longer texts until one takes ENOUGH_S, then write a few tokens in a batch.

    A slow model is measured on a short text, so that measuring takes about a second on any.
    """
    read = _measure_reading(lm)
    try:
        return ModelSpeed(read=read, write=_measure_writing(lm), batch=BATCH)
    except InputError:  # a model that cannot write, for whatever reason it gives
        return ModelSpeed(read=read, write=None, batch=BATCH)


def measure_and_remember(speeds: ModelSpeeds, lm: Lm) -> ModelSpeed | None:
    """Measure a model that has just been loaded and keep the best that this machine has shown.

    Other work on the machine only ever slows a measurement down, so the fastest one stands. Where
    the table cannot be written the measurement is returned and not kept. A model that cannot be
    run now is not measured: what is wrong with it is said where a person asks it for something.
    """
    known = speeds.find(lm.model_hash)
    try:
        found = measure_model_speed(lm)
    except Exception:  # out of memory, for one: an estimate must not cost the model
        return known
    if known is not None:
        writes = [one for one in (known.write, found.write) if one is not None]
        found = ModelSpeed(
            read=max(known.read, found.read), write=max(writes, default=None), batch=BATCH
        )
    if found != known:
        with suppress(OSError):
            speeds.remember(lm.model_hash, found)
    return found


def _measure_reading(lm: Lm) -> float:
    n, most = 8, min(MOST_TOKENS, lm.n_ctx)
    _seconds_to_read(lm, n)  # the first pass of a process pays for much else
    while True:
        seconds = _seconds_to_read(lm, n)
        enough = n >= FEWEST_TOKENS and seconds >= ENOUGH_S
        if enough or seconds >= SLOW_S or n >= most:
            return n / seconds
        n = min(most, 4 * n)


def _seconds_to_read(lm: Lm, n: int) -> float:
    tokens = torch.zeros(1, n, dtype=torch.long)
    began = time.perf_counter()
    with torch.inference_mode():
        float(lm.logits(tokens)[0, -1, 0])  # a number: work of another device has ended by then
    return max(time.perf_counter() - began, 1e-6)


def _measure_writing(lm: Lm) -> float | None:
    rows = [Row(str(n), (), n) for n in range(BATCH)]
    sampling = Sampling(max_new=STEPS + 1, temperature=1.0)
    start = Start((0,) * min(4, lm.n_ctx - STEPS - 2))
    began, times = 0.0, []
    for record in generate(lm, {}, start, rows, sampling, Extras(guard=False)):
        if isinstance(record, Token) and record.row == rows[-1].name:
            times.append(time.perf_counter())
    if len(times) < 2:
        return None
    began, ended = times[0], times[-1]
    return BATCH * (len(times) - 1) / max(ended - began, 1e-6)
