"""Effect sizes of the difference between two sides, for each feature: firing shares with Newcombe's
interval, means with Hedges' g, and AUC.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from backend.contrast.permutation_tests import rank_scores
from feature_store.statistics.proportion_intervals import newcombe_interval


@dataclass(frozen=True)
class EffectSizes:
    """Effect sizes of m features: how their activations on the documents of side a differ from
    those on side b. Each array has shape [m].
    """

    fires_a: np.ndarray
    """Number of documents on side a on which the feature fires (|activation| > 0)."""
    fires_b: np.ndarray
    share_difference: np.ndarray
    """Share of documents on which the feature fires, side a minus side b."""
    share_low: np.ndarray
    """Lower end of Newcombe's 95 % interval of the difference of firing shares."""
    share_high: np.ndarray
    mean_a: np.ndarray
    """Mean of the strongest activation over side a's documents, 0 where silent."""
    mean_b: np.ndarray
    hedges_g: np.ndarray
    """Hedges' g: difference of the means in pooled standard deviations, corrected for small
    samples. NaN if neither side varies or there are fewer than three documents.
    """
    auc: np.ndarray
    """AUC: probability that a random document of side a has a larger value than one of side b, ties
    counted half.
    """


def compute_effect_sizes(
    tile: Float32[np.ndarray, "n m"], on_a: Bool[np.ndarray, "n"]
) -> EffectSizes:
    """Compute the effect sizes of m features from their strongest activations in a matrix
    [documents, m]; `on_a` marks the documents of side a.
    """
    n_a, n_b = int(on_a.sum()), int((~on_a).sum())
    a, b = tile[on_a].astype(np.float64), tile[~on_a].astype(np.float64)
    fires_a, fires_b = (a != 0).sum(axis=0), (b != 0).sum(axis=0)
    low, high = newcombe_interval(fires_a, n_a, fires_b, n_b)
    ranks = on_a.astype(np.float64) @ rank_scores(tile)
    return EffectSizes(
        fires_a=fires_a,
        fires_b=fires_b,
        share_difference=fires_a / n_a - fires_b / n_b,
        share_low=low,
        share_high=high,
        mean_a=a.mean(axis=0),
        mean_b=b.mean(axis=0),
        hedges_g=hedges_g(a, b),
        auc=0.5 + ranks / (2 * n_a * n_b),
    )


def hedges_g(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the effect size Hedges' g, the standardized difference of means (Hedges 1981), of side
    a [documents, m] and side b for each of m features; NaN where it is undefined.
    """
    free = len(a) + len(b) - 2
    if free < 1:
        return np.full(a.shape[1], np.nan)
    squares = ((a - a.mean(axis=0)) ** 2).sum(axis=0) + ((b - b.mean(axis=0)) ** 2).sum(axis=0)
    spread = np.sqrt(squares / free)
    with np.errstate(divide="ignore", invalid="ignore"):
        d = np.where(spread > 0, (a.mean(axis=0) - b.mean(axis=0)) / spread, np.nan)
    return d * (1 - 3 / (4 * free - 1))
