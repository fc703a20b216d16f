"""A random sample of next tokens that the model predicts well, at most one from each sequence of
the harvest.
"""

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
"""Maximum number of tokens in one forward pass."""
MIN_TOKENS_BEFORE = 4
"""Minimum number of counted tokens before a sampled prediction."""
REPEAT_WINDOW = 6
"""Number of tokens, up to the predicted one, that must differ from those of every other sampled
prediction.
"""


@dataclass(frozen=True)
class SampledPrediction:
    """One next-token prediction of the model, sampled from the corpus of a harvest."""

    sequence: int
    position: int
    """Position of the last token that the model reads; the token after it is predicted."""
    target: int
    loss: float
    """Cross-entropy of the predicted token in nats."""
    split: str


@dataclass(frozen=True)
class PredictionSample:
    """The predictions sampled from a harvest's corpus, and how many were looked at and predicted
    well.
    """

    picks: list[SampledPrediction]
    n_candidates: int
    """Number of predictions looked at."""
    n_well_predicted: int
    """Number of these that are predicted well."""


def sample_predictions(
    engine: LocalEngine,
    file: HarvestFile,
    n: int,
    loss: float,
    seed: int,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> PredictionSample:
    """Sample up to `n` predictions with a loss below `loss` nats, no two from one sequence.

    Raises InputError if fewer than 20 are found.
    """
    rng = np.random.default_rng(seed)
    splits = file.rows("SELECT split FROM sequence ORDER BY sequence").column("split").to_pylist()
    found: list[SampledPrediction] = []
    seen: set[tuple[int, ...]] = set()
    looked = good = 0
    for rows in batch_sequences(file, rng.permutation(len(file.sequences))):
        losses, use = _prediction_losses(engine, file, rows)
        looked += int(use.sum())
        well_predicted = use & (losses < loss)
        good += int(well_predicted.sum())
        for i, sequence in enumerate(rows.tolist()):
            tokens = file.sequences.tokens(sequence)
            for at in rng.permutation(well_predicted[i].nonzero()[:, 0].numpy()).tolist():
                last_tokens = tuple(tokens[max(at - REPEAT_WINDOW + 2, 0) : at + 2].tolist())
                if last_tokens not in seen:
                    seen.add(last_tokens)
                    one = (sequence, at, int(tokens[at + 1]), float(losses[i, at]))
                    found.append(SampledPrediction(*one, split=splits[sequence]))
                    break
        tick(min(len(found), n), n)
        if len(found) >= n:
            break
    if len(found) < 20:
        raise InputError(
            f"Of {looked:,} predictions only {len(found)} have a loss below {loss:g} nats; at "
            "least 20 are needed. Set a higher loss, or harvest more text."
        )
    return PredictionSample(found[:n], looked, good)


def batch_sequences(file: HarvestFile, order: np.ndarray) -> Iterator[np.ndarray]:
    """Yield batches of sequences from which predictions are sampled, in the given order, with at
    most TOKENS_PER_PASS tokens including padding.
    """
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
    """Return the loss of each next token [batch, position − 1], and a mask of the predictions that
    may be sampled.
    """
    ids, real = pad_right([file.sequences.tokens(row).tolist() for row in rows.tolist()])
    use = mark_counted_positions(
        ids, real, uncounted_token_ids(engine.lm.bos, engine.lm.special_ids, {})
    )
    losses = engine.lm.token_losses(ids).cpu() if ids.shape[1] > 1 else torch.zeros(len(ids), 0)
    enough = use.cumsum(1)[:, :-1] >= MIN_TOKENS_BEFORE
    return losses, use[:, 1:] & use[:, :-1] & enough
