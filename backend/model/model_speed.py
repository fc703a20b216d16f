"""Measure how many tokens a second a loaded model reads and writes, in about a second."""

import time
from contextlib import suppress

import torch

from backend.generation.prompt_tokenization import PromptTokens
from backend.generation.records import GenerationRow, SamplingSettings, TokenRecord
from backend.generation.token_stream import StreamOptions, stream_tokens
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.model_speeds import ModelSpeed, ModelSpeeds

ENOUGH_SECONDS, SLOW_SECONDS = 0.3, 2.0
"""A pass of FEWEST_TOKENS or more that took ENOUGH_S can be told from noise; after one that took
SLOW_S no longer one is tried."""
MIN_PASS_TOKENS, MAX_PASS_TOKENS = 128, 512
"""Tokens of a pass that is measured: short ones pay for reading the weights, not for tokens."""
WRITING_BATCH = 8
"""Texts that are written at once."""
TIMED_STEPS = 4
"""New tokens of each of them that are timed."""


def measure_model_speed(lm: LanguageModel) -> ModelSpeed:
    """Read ever longer texts until one takes ENOUGH_S, then write a few tokens in a batch.

    A slow model is measured on a short text, so that measuring takes about a second on any.
    """
    read = _measure_reading_speed(lm)
    try:
        return ModelSpeed(read=read, write=_measure_writing_speed(lm), batch=WRITING_BATCH)
    except InputError:  # a model that cannot write, for whatever reason it gives
        return ModelSpeed(read=read, write=None, batch=WRITING_BATCH)


def measure_and_store_speed(speeds: ModelSpeeds, lm: LanguageModel) -> ModelSpeed | None:
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
            read=max(known.read, found.read), write=max(writes, default=None), batch=WRITING_BATCH
        )
    if found != known:
        with suppress(OSError):
            speeds.remember(lm.model_hash, found)
    return found


def _measure_reading_speed(lm: LanguageModel) -> float:
    n, most = 8, min(MAX_PASS_TOKENS, lm.n_ctx)
    _time_forward_pass(lm, n)  # the first pass of a process pays for much else
    while True:
        seconds = _time_forward_pass(lm, n)
        enough = n >= MIN_PASS_TOKENS and seconds >= ENOUGH_SECONDS
        if enough or seconds >= SLOW_SECONDS or n >= most:
            return n / seconds
        n = min(most, 4 * n)


def _time_forward_pass(lm: LanguageModel, n: int) -> float:
    tokens = torch.zeros(1, n, dtype=torch.long)
    began = time.perf_counter()
    with torch.inference_mode():
        float(lm.logits(tokens)[0, -1, 0])  # a number: work of another device has ended by then
    return max(time.perf_counter() - began, 1e-6)


def _measure_writing_speed(lm: LanguageModel) -> float | None:
    rows = [GenerationRow(str(n), (), n) for n in range(WRITING_BATCH)]
    sampling = SamplingSettings(max_new=TIMED_STEPS + 1, temperature=1.0)
    start = PromptTokens((0,) * min(4, lm.n_ctx - TIMED_STEPS - 2))
    began, times = 0.0, []
    for record in stream_tokens(lm, {}, start, rows, sampling, StreamOptions(guard=False)):
        if isinstance(record, TokenRecord) and record.row == rows[-1].name:
            times.append(time.perf_counter())
    if len(times) < 2:
        return None
    began, ended = times[0], times[-1]
    return WRITING_BATCH * (len(times) - 1) / max(ended - began, 1e-6)
