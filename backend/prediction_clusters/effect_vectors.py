"""Effect vectors: for each sampled prediction, a sparse vector of the effects of all features on
the log probability of its next token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from backend.attribution.dictionary_activations import read_dictionary_activations
from backend.attribution.hook_gradients import compute_hook_gradients
from backend.attribution.target_metric import TargetMetric
from backend.dictionaries.base import Dictionary
from backend.engine import LocalEngine
from backend.model.counted_positions import mark_counted_positions, pad_right, uncounted_token_ids
from backend.prediction_clusters.prediction_sample import SampledPrediction
from feature_store.harvest_reader import HarvestFile

TOKENS_PER_PASS = 1_024
"""Maximum number of tokens in one forward and backward pass."""
HEAT_WINDOW = 32
"""Number of last tokens of a prompt for which the largest effect (heat) is kept."""


@dataclass(frozen=True)
class EffectVectors:
    """Effect vectors of all sampled predictions: one row for each prediction, one column for each
    feature of every dictionary, with the estimated effect of ablating the feature on the
    prediction.
    """

    effects: csr_matrix
    """Estimated change of log p(next token), in nats, when a feature is zero at all tokens
    (gradient × activation); each row keeps the effects of largest magnitude.
    """
    offsets: dict[str, int]
    """First column of each dictionary."""
    heat: list[list[float]]
    """Largest |effect| of any feature at each of the last HEAT_WINDOW tokens of each prompt."""


@dataclass(frozen=True, eq=False)
class PredictionPrompts:
    """Padded prompts of sampled predictions, for which effect vectors are computed: each sequence
    up to the last token read, with the predicted token as target.
    """

    tokens: Tensor
    counted: Tensor
    target: TargetMetric


def pad_prediction_prompts(
    engine: LocalEngine, file: HarvestFile, picks: Sequence[SampledPrediction]
) -> PredictionPrompts:
    """Build one batch of prompts of sampled predictions, for computing their effect vectors; padded
    on the right, where causal attention does not see it.
    """
    ids, real = pad_right(
        [file.sequences.tokens(one.sequence)[: one.position + 1].tolist() for one in picks]
    )
    use = mark_counted_positions(
        ids, real, uncounted_token_ids(engine.lm.bos, engine.lm.special_ids, {})
    )
    last = torch.tensor([one.position for one in picks])
    return PredictionPrompts(ids, use, TargetMetric([[one.target] for one in picks], None, last))


def compute_effect_vectors(
    engine: LocalEngine,
    file: HarvestFile,
    chosen: Sequence[Dictionary],
    picks: Sequence[SampledPrediction],
    kept: int,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> EffectVectors:
    """Compute the effect vector of each sampled prediction: the estimated effect on its log
    probability of ablating each feature. Only the `kept` largest effects of each are held in
    memory.

    The vectors do not depend on how predictions are batched.
    """
    widths = np.cumsum([0, *(one.d_sae for one in chosen)])
    offsets = {one.name: int(first) for one, first in zip(chosen, widths, strict=False)}
    rows: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros(0, int), np.zeros(0))] * len(picks)
    heat: list[list[float]] = [[]] * len(picks)
    done = 0
    for numbers in batch_predictions(picks):
        given = pad_prediction_prompts(engine, file, [picks[i] for i in numbers])
        found, heats = _batch_effects(engine, chosen, list(offsets.values()), given)
        for i, (columns, values), row_heat in zip(numbers, found, heats, strict=True):
            top = np.argsort(-np.abs(values), kind="stable")[:kept]
            rows[i] = (columns[top], values[top])
            at = picks[i].position
            heat[i] = [float(x) for x in row_heat[max(at + 1 - HEAT_WINDOW, 0) : at + 1]]
        done += len(numbers)
        tick(done, len(picks))
    counts = np.cumsum([0, *(len(columns) for columns, _ in rows)])
    columns = np.concatenate([columns for columns, _ in rows])
    values = np.concatenate([values for _, values in rows])
    shape = (len(picks), int(widths[-1]))
    return EffectVectors(csr_matrix((values, columns, counts), shape=shape), offsets, heat)


def batch_predictions(picks: Sequence[SampledPrediction]) -> list[list[int]]:
    """Return the indices of sampled predictions in batches whose prompts have similar length, for
    computing effect vectors.
    """
    order = sorted(range(len(picks)), key=lambda i: -picks[i].position)
    found, begin = [], 0
    while begin < len(order):
        size = max(1, TOKENS_PER_PASS // (picks[order[begin]].position + 1))
        found.append(order[begin : begin + size])
        begin += size
    return found


def _batch_effects(
    engine: LocalEngine,
    chosen: Sequence[Dictionary],
    firsts: Sequence[int],
    given: PredictionPrompts,
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Return the effect vector of each prediction of a batch, (columns, values) of all features
    active in its prompt, and the largest |effect| of any feature at each token.
    """
    hooks = list(dict.fromkeys(one.hook_out for one in chosen))
    by = compute_hook_gradients(engine.lm, given.tokens, hooks, given.target).gradients
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    heat = np.zeros(given.tokens.shape)
    for one, first in zip(chosen, firsts, strict=True):
        (reading,) = read_dictionary_activations(engine.lm, [one], given.tokens, given.counted)
        effect = (
            (-reading.active.value * reading.feature_gradients(by[one.hook_out]))
            .double()
            .cpu()
            .numpy()
        )
        row, at, feature = (column.cpu().numpy() for column in reading.active[:3])
        np.maximum.at(heat, (row, at), np.abs(effect))
        keys, where = np.unique(row * one.d_sae + feature, return_inverse=True)
        summed = np.bincount(where, weights=effect, minlength=len(keys))
        parts.append((keys // one.d_sae, keys % one.d_sae + first, summed))
    row, column, value = (np.concatenate(x) for x in zip(*parts, strict=True))
    order = np.argsort(row, kind="stable")
    edges = np.searchsorted(row[order], np.arange(len(heat) + 1))
    spans = [order[low:high] for low, high in zip(edges, edges[1:], strict=False)]
    return [(column[span], value[span]) for span in spans], heat
