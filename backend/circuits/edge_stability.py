"""Edge stability over prompts: the share of bootstrap draws of the prompts in which an edge stays
in the graph.

A draw takes as many prompts as there are, with replacement. An edge holds in a draw if its mean
over the drawn prompts has the sign of its mean over all prompts, and is at least as large as the
weakest edge of the graph.
"""

import numpy as np
from jaxtyping import Float

from feature_store.statistics.bootstrap_t import MIN_UNITS

BOOTSTRAP_DRAWS = 1_000
BLOCK_NUMBERS = 1 << 22
"""Maximum number of edge weights in one block of bootstrap draws."""


def bootstrap_edge_stability(
    each: Float[np.ndarray, "prompts edges"], draws: int = BOOTSTRAP_DRAWS, seed: int = 0
) -> Float[np.ndarray, "edges"] | None:
    """Return the stability of each edge of a circuit: the share of bootstrap draws of the prompts
    in which its mean weight keeps its sign and is at least as large as the graph's weakest edge.

    None without edges or for fewer than MIN_UNITS prompts, whose draws are no evidence about other
    prompts.
    """
    n, edges = each.shape
    if n < MIN_UNITS or not edges:
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
