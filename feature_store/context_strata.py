"""Views of a feature's `range` contexts: deciles, importance-weighted, near zero.

The stored sample is stratified by octave, and each context carries the number of windows that it
stands for. So every view of the distribution is a re-weighting of the same contexts.
"""

import hashlib
import math

from feature_store.activation_histogram import share_below
from feature_store.records import Context, FeatureFacts

N_DECILES = 10


def find_decile(feature: FeatureFacts, value: float) -> int:
    """Which tenth of the feature's firing windows |value| falls in: 1 (weakest) to 10."""
    if not feature.window_histogram or feature.window_histogram_start is None:
        raise ValueError("a feature that never fired has no deciles")
    below = share_below(feature.window_histogram, feature.window_histogram_start, abs(value))
    return min(int(below * N_DECILES) + 1, N_DECILES)


def group_by_decile(feature: FeatureFacts, contexts: list[Context]) -> dict[int, list[Context]]:
    """The range contexts by decile of window maxima, strongest decile first."""
    found: dict[int, list[Context]] = {number: [] for number in range(N_DECILES, 0, -1)}
    for context in select_range_contexts(contexts):
        found[find_decile(feature, context.value)].append(context)
    return {number: members for number, members in found.items() if members}


def near_zero_contexts(feature: FeatureFacts, contexts: list[Context]) -> list[Context]:
    """The range contexts of the lowest decile, weakest first."""
    low = [c for c in select_range_contexts(contexts) if find_decile(feature, c.value) == 1]
    return sorted(low, key=lambda c: abs(c.value))


def sample_by_importance(contexts: list[Context], n: int, seed: int = 0) -> list[Context]:
    """`n` range contexts drawn without replacement with probability ∝ weight · a².

    Priorities u^(1 / (weight · a²)) (Efraimidis & Spirakis 2006), u a hash of the window and the
    seed, so that the draw is the same on every machine.
    """
    return sorted(select_range_contexts(contexts), key=lambda c: -sampling_priority(c, seed))[:n]


def sampling_priority(context: Context, seed: int) -> float:
    """The draw's key; larger is drawn first. A logarithm of the paper's key, which underflows."""
    name = f"{seed}/{context.sequence}/{context.start}".encode()
    u = (int.from_bytes(hashlib.blake2b(name, digest_size=7).digest(), "little") + 1) / 2**56
    return math.log(u) / (context_weight(context) * context.value**2)


def activation_mass(contexts: list[Context]) -> float:
    """Σ weight · |value|: the windows' peak activation that these contexts stand for."""
    return sum(context_weight(c) * abs(c.value) for c in select_range_contexts(contexts))


def context_weight(context: Context) -> float:
    """The windows that a range context stands for. Raises ValueError for top and bottom ones."""
    if context.weight is None:
        raise ValueError(f"a {context.stratum} context is no random sample and has no weight")
    return context.weight


def select_range_contexts(contexts: list[Context]) -> list[Context]:
    """Those of the `range` stratum, in stored order."""
    return [c for c in contexts if c.stratum == "range"]
