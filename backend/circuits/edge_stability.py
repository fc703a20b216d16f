"""Whether edges hold over prompts: the share of bootstrap draws in which an edge is in the graph.

A draw takes as many prompts as there are, with replacement. An edge holds in it when the mean over
the drawn prompts has the sign of the mean over all, and is at least as large as the weakest edge
that the graph shows.
"""

import numpy as np
from jaxtyping import Float

from backend.ablation.bootstrap_intervals import MIN_ROWS

BOOTSTRAP_DRAWS = 1_000
BLOCK_NUMBERS = 1 << 22
"""Numbers of one block of draws."""


def bootstrap_edge_stability(
    each: Float[np.ndarray, "prompts edges"], draws: int = BOOTSTRAP_DRAWS, seed: int = 0
) -> Float[np.ndarray, "edges"] | None:
    """For each edge the share of draws in which it holds. None below LEAST prompts: draws of so
    few say nothing of others."""
    n, edges = each.shape
    if n < MIN_ROWS or not edges:
        return None
    rng = np.random.default_rng(seed)
    times = rng.multinomial(n, np.full(n, 1 / n), size=draws) / n
    mean = each.mean(0)
    sign, cut = np.sign(mean), np.abs(mean).min() * (1 - 1e-6)
    held = np.zeros(edges)
    step = max(1, BLOCK_NUMBERS // edges)
    for begin in range(0, draws, step):
        drawn = times[begin : begin + step] @ each
        held += (drawn * sign >= cut).sum(0)
    return held / draws
