"""Context strata: views of a feature's `range` contexts by decile, by importance, or near zero
activation.

The stored contexts are a sample stratified by octave, and each carries the number of windows that
it represents. So every view of the distribution reweights the same contexts.
"""

import hashlib
import math

from feature_store.activation_histogram import share_below
from feature_store.records import Context, FeatureFacts

N_DECILES = 10


def find_decile(feature: FeatureFacts, value: float) -> int:
    """Return the decile in which a peak activation |value| lies among the feature's firing windows:
    1 (weakest) to 10.

    Raises ValueError for a feature that never fired.
    """
    if not feature.window_histogram or feature.window_histogram_start is None:
        raise ValueError("a feature that never fired has no deciles")
    below = share_below(feature.window_histogram, feature.window_histogram_start, abs(value))
    return min(int(below * N_DECILES) + 1, N_DECILES)


def group_by_decile(feature: FeatureFacts, contexts: list[Context]) -> dict[int, list[Context]]:
    """Group a feature's range contexts by the decile of their peak activation, strongest decile
    first."""
    found: dict[int, list[Context]] = {number: [] for number in range(N_DECILES, 0, -1)}
    for context in select_range_contexts(contexts):
        found[find_decile(feature, context.value)].append(context)
    return {number: members for number, members in found.items() if members}


def near_zero_contexts(feature: FeatureFacts, contexts: list[Context]) -> list[Context]:
    """Return a feature's range contexts (those sampled over all its activations) whose peak
    activation is in the lowest decile, weakest first."""
    low = [c for c in select_range_contexts(contexts) if find_decile(feature, c.value) == 1]
    return sorted(low, key=lambda c: abs(c.value))


def sample_by_importance(contexts: list[Context], n: int, seed: int = 0) -> list[Context]:
    """Sample `n` range contexts without replacement, with probability ∝ weight · a²: the number of
    windows that a context represents, times the square of its peak activation.

    Uses the keys u^(1 / (weight · a²)) of Efraimidis & Spirakis (2006), with u a hash of the window
    and the seed, so that the sample is the same on every machine.
    """
    return sorted(select_range_contexts(contexts), key=lambda c: -sampling_priority(c, seed))[:n]


def sampling_priority(context: Context, seed: int) -> float:
    """Return a context's key for sampling by importance; larger keys are drawn first. It is the
    logarithm of Efraimidis & Spirakis' key, which itself would underflow."""
    name = f"{seed}/{context.sequence}/{context.start}".encode()
    u = (int.from_bytes(hashlib.blake2b(name, digest_size=7).digest(), "little") + 1) / 2**56
    return math.log(u) / (context_weight(context) * context.value**2)


def activation_mass(contexts: list[Context]) -> float:
    """Return Σ weight · |value| of range contexts: the total peak activation of the windows that
    they represent."""
    return sum(context_weight(c) * abs(c.value) for c in select_range_contexts(contexts))


def context_weight(context: Context) -> float:
    """Return the number of windows that a range context represents. Raises ValueError for top
    and bottom contexts."""
    if context.weight is None:
        raise ValueError(f"a {context.stratum} context is not a random sample and has no weight")
    return context.weight


def select_range_contexts(contexts: list[Context]) -> list[Context]:
    """Return the contexts of the `range` stratum (sampled over all activations of a feature, unlike
    its top and bottom contexts), in stored order."""
    return [c for c in contexts if c.stratum == "range"]
