"""Measurement of a loaded model's speed: tokens per second that it reads and writes, in about a
second."""

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
"""Durations that decide how long a pass the model's speed is measured on: one of MIN_PASS_TOKENS or
more that took ENOUGH_SECONDS stands out from noise; after one that took SLOW_SECONDS no longer pass
is tried."""
MIN_PASS_TOKENS, MAX_PASS_TOKENS = 128, 512
"""Smallest and largest number of tokens in a timed pass: the time of a short pass is spent on
reading the weights, not on tokens."""
WRITING_BATCH = 8
"""Number of texts that the model writes at once while its writing speed is measured."""
TIMED_STEPS = 4
"""Number of new tokens of each text that are timed to measure the model's writing speed."""


def measure_model_speed(lm: LanguageModel) -> ModelSpeed:
    """Measure a model's speed in tokens per second: reading (a forward pass over a text) and
    writing (generating token by token).

    Ever longer texts are read until one takes ENOUGH_SECONDS, then a few tokens are written in a
    batch. A slow model is measured on a short text, so that measuring takes about a second on any
    model.
    """
    read = _measure_reading_speed(lm)
    try:
        return ModelSpeed(read=read, write=_measure_writing_speed(lm), batch=WRITING_BATCH)
    except InputError:  # this model cannot generate text
        return ModelSpeed(read=read, write=None, batch=WRITING_BATCH)


def measure_and_store_speed(speeds: ModelSpeeds, lm: LanguageModel) -> ModelSpeed | None:
    """Measure the speed of a model that has just been loaded, and store the best speed measured on
    this machine.

    Other work on the machine only slows a measurement down, so the fastest one is kept. Where the
    table cannot be written, the measurement is returned but not stored. A model that cannot run now
    is not measured: its error is shown when a person uses it.
    """
    known = speeds.find(lm.model_hash)
    try:
        measured = measure_model_speed(lm)
    except Exception:  # such as out of memory: an estimate must not make the model unusable
        return known
    if known is not None:
        writes = [one for one in (known.write, measured.write) if one is not None]
        measured = ModelSpeed(
            read=max(known.read, measured.read),
            write=max(writes, default=None),
            batch=WRITING_BATCH,
        )
    if measured != known:
        with suppress(OSError):
            speeds.remember(lm.model_hash, measured)
    return measured


def _measure_reading_speed(lm: LanguageModel) -> float:
    n, longest = 8, min(MAX_PASS_TOKENS, lm.n_ctx)
    _time_forward_pass(lm, n)  # the first pass of a process also pays for one-time set-up
    while True:
        seconds = _time_forward_pass(lm, n)
        enough = n >= MIN_PASS_TOKENS and seconds >= ENOUGH_SECONDS
        if enough or seconds >= SLOW_SECONDS or n >= longest:
            return n / seconds
        n = min(longest, 4 * n)


def _time_forward_pass(lm: LanguageModel, n: int) -> float:
    tokens = torch.zeros(1, n, dtype=torch.long)
    started = time.perf_counter()
    with torch.inference_mode():
        float(lm.logits(tokens)[0, -1, 0])  # reading a number waits until the device has finished
    return max(time.perf_counter() - started, 1e-6)


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
