"""Next tokens that the model predicts well, one of a sequence, in an order that a seed gives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from backend.engine import LocalEngine
from backend.model.counted_positions import mark_counted_positions, pad_right, uncounted_token_ids
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile

TOKENS_PER_PASS = 2_048
"""Of one forward pass."""
MIN_TOKENS_BEFORE = 4
"""Counted tokens that stand before a prediction, at least."""
REPEAT_WINDOW = 6
"""Tokens up to the predicted one: where all are those of another pick, it is left out."""


@dataclass(frozen=True)
class SampledPrediction:
    """One prediction of the model on its harvest's corpus."""

    sequence: int
    position: int
    """Of the last token that is read; the next one is predicted."""
    target: int
    loss: float
    """In nats."""
    split: str


@dataclass(frozen=True)
class PredictionSample:
    """The picks, and what was looked at."""

    picks: list[SampledPrediction]
    looked: int
    """Predictions looked at."""
    good: int
    """Of these, predicted well."""


def sample_predictions(
    engine: LocalEngine,
    file: HarvestFile,
    n: int,
    loss: float,
    seed: int,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> PredictionSample:
    """Up to `n` picks, no two of a sequence; InputError where fewer than 20 are found."""
    rng = np.random.default_rng(seed)
    splits = file.rows("SELECT split FROM sequence ORDER BY sequence").column("split").to_pylist()
    found: list[SampledPrediction] = []
    seen: set[tuple[int, ...]] = set()
    looked = good = 0
    for rows in batch_sequences(file, rng.permutation(len(file.sequences))):
        losses, use = _prediction_losses(engine, file, rows)
        looked += int(use.sum())
        fine = use & (losses < loss)
        good += int(fine.sum())
        for i, sequence in enumerate(rows.tolist()):
            tokens = file.sequences.tokens(sequence)
            for at in rng.permutation(fine[i].nonzero()[:, 0].numpy()).tolist():
                gist = tuple(tokens[max(at - REPEAT_WINDOW + 2, 0) : at + 2].tolist())
                if gist not in seen:
                    seen.add(gist)
                    one = (sequence, at, int(tokens[at + 1]), float(losses[i, at]))
                    found.append(SampledPrediction(*one, split=splits[sequence]))
                    break
        tick(min(len(found), n), n)
        if len(found) >= n:
            break
    if len(found) < 20:
        raise InputError(
            f"Of {looked:,} predictions only {len(found)} could be taken with a loss below "
            f"{loss:g} nats; at least 20 are grouped. Ask for a higher loss, or harvest more text."
        )
    return PredictionSample(found[:n], looked, good)


def batch_sequences(file: HarvestFile, order: np.ndarray) -> Iterator[np.ndarray]:
    """Sequences in this order, as many as have TOKENS tokens with their padding."""
    lengths = np.diff(file.sequences.offsets)
    begin = 0
    while begin < len(order):
        end, longest = begin, 1
        while end < len(order):
            longest = max(longest, int(lengths[order[end]]))
            if end > begin and longest * (end + 1 - begin) > TOKENS_PER_PASS:
                break
            end += 1
        yield order[begin:end]
        begin = end


def _prediction_losses(
    engine: LocalEngine, file: HarvestFile, rows: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Loss of each next token [batch pos-1], and which of them may be picked."""
    ids, real = pad_right([file.sequences.tokens(row).tolist() for row in rows.tolist()])
    use = mark_counted_positions(
        ids, real, uncounted_token_ids(engine.lm.bos, engine.lm.special_ids, {})
    )
    losses = engine.lm.token_losses(ids).cpu() if ids.shape[1] > 1 else torch.zeros(len(ids), 0)
    enough = use.cumsum(1)[:, :-1] >= MIN_TOKENS_BEFORE
    return losses, use[:, 1:] & use[:, :-1] & enough
