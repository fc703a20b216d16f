"""Effect estimates from gradients for every active feature and error term of a dictionary, by
attribution patching or by integrated gradients.

An effect is the change of the target metric when one node goes from its own value to its baseline
while everything else is free to respond: it is positive when ablating the node raises the metric.
Attribution patching estimates effects to first order; integrated gradients average the gradient
along the straight path on which all nodes of one dictionary go to their baselines together (Sparse
Feature Circuits, Marks et al. 2024, eq. 2 and 3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.attribution.dictionary_activations import DictionaryActivations
from backend.attribution.hook_gradients import compute_hook_gradients
from backend.attribution.target_metric import MetricFunction
from backend.model.language_model import LanguageModel

INTEGRATION_STEPS = 10
"""Default number of points on the path of integrated gradients for an effect estimate."""
PROMPT_COPIES = 64
"""Maximum number of prompt copies in one forward pass of an effect estimate."""


@dataclass(frozen=True)
class AttributionBaseline:
    """Baseline values to which the features and error terms of one dictionary move in an effect
    estimate."""

    value: Float[Tensor, "n"]
    """Baseline of each active feature, in the order of the dictionary's active features."""
    error: Float[Tensor, "batch pos d_out"] | None = None
    """Baseline of the error term, [batch, position, d_out]; None leaves the error term
    unchanged."""


def make_zero_baseline(reading: DictionaryActivations, *, errors: bool) -> AttributionBaseline:
    """Return the zero baseline for the effect estimates of one dictionary: every active feature
    becomes 0, and so does the error term if `errors` is true."""
    value = torch.zeros_like(reading.active.value)
    return AttributionBaseline(value, torch.zeros_like(reading.error_term()) if errors else None)


@dataclass(frozen=True)
class EffectEstimates:
    """Estimated effects of all active features and error terms of one dictionary on the target
    metric."""

    reading: DictionaryActivations
    node: Float[Tensor, "n"]
    """Estimated effect of each active feature, in the units of the target metric."""
    error: Float[Tensor, "batch pos"]
    """Estimated effect of the error term at each position; 0 where error terms stay unchanged."""
    moved: Float[Tensor, "batch"]
    """Measured change of the target metric when all nodes take their baselines at once. The
    estimates of integrated gradients must add up to it. NaN for attribution patching, which does
    not measure it."""

    @property
    def total(self) -> Float[Tensor, "batch"]:
        """Return the sum of all effect estimates, features and error terms, for each prompt."""
        total = self.error.sum(-1)
        return total.index_add(0, self.reading.active.row, self.node.to(total.dtype))

    @property
    def error_share(self) -> float:
        """Return Σ|effects of error terms| ÷ Σ|all effects| for this dictionary; NaN when all
        effects are 0."""
        missed, kept = float(self.error.abs().sum()), float(self.node.abs().sum())
        return missed / (missed + kept) if missed + kept else float("nan")


def estimate_by_attribution_patching(
    lm: LanguageModel,
    readings: Sequence[DictionaryActivations],
    baselines: Mapping[str, AttributionBaseline],
    tokens: Int[Tensor, "batch pos"],
    metric: MetricFunction,
) -> list[EffectEstimates]:
    """Estimate the effects of all dictionaries' active features by attribution patching: one
    forward and one backward pass."""
    hooks = list(dict.fromkeys(one.dictionary.hook_out for one in readings))
    found = compute_hook_gradients(lm, tokens, hooks, metric)
    unknown = torch.full_like(found.value, float("nan"))
    return [
        _multiply_change_and_gradient(
            one, baselines[one.dictionary.name], found.gradients[one.dictionary.hook_out], unknown
        )
        for one in readings
    ]


def estimate_by_integrated_gradients(
    lm: LanguageModel,
    readings: Sequence[DictionaryActivations],
    baselines: Mapping[str, AttributionBaseline],
    tokens: Int[Tensor, "batch pos"],
    metric: MetricFunction,
    steps: int = INTEGRATION_STEPS,
) -> list[EffectEstimates]:
    """Estimate the effects of active features by integrated gradients, one dictionary at a time,
    with the gradient taken at the midpoints of `steps` equal parts of the path."""
    return [
        _integrate_dictionary(lm, one, baselines[one.dictionary.name], tokens, metric, steps)
        for one in readings
    ]


def _integrate_dictionary(
    lm: LanguageModel,
    reading: DictionaryActivations,
    baseline: AttributionBaseline,
    tokens: Int[Tensor, "batch pos"],
    metric: MetricFunction,
    steps: int,
) -> EffectEstimates:
    """Estimate the effects of one dictionary by integrated gradients, and measure the change that
    they must add up to."""
    change = total_baseline_change(reading, baseline)
    middles = [(step + 0.5) / steps for step in range(steps)]
    summed = torch.zeros_like(change)
    per_pass = max(1, PROMPT_COPIES // len(tokens))
    hook = reading.dictionary.hook_out
    for begin in range(0, steps, per_pass):
        shares = torch.tensor(middles[begin : begin + per_pass], device=change.device)
        moved = (shares[:, None, None, None] * change).flatten(0, 1)
        rows = tokens.repeat(len(shares), 1)
        found = compute_hook_gradients(lm, rows, [hook], metric, {hook: _add_to_activation(moved)})
        summed += found.gradients[hook].view(len(shares), *change.shape).sum(0)
    with torch.no_grad():
        both = torch.cat([torch.zeros_like(change), change])
        value = metric(lm.logits(tokens.repeat(2, 1), {hook: _add_to_activation(both)}))
    before, after = value.chunk(2)
    return _multiply_change_and_gradient(reading, baseline, summed / steps, after - before)


def total_baseline_change(
    reading: DictionaryActivations, baseline: AttributionBaseline
) -> Float[Tensor, "batch pos d_out"]:
    """Return the change [batch, position, d_out] of the activation at the dictionary's output hook
    point when every active feature takes its baseline: the whole path along which integrated
    gradients estimate effects."""
    change = reading.decode_feature_values(baseline.value - reading.active.value)
    return change if baseline.error is None else change + baseline.error - reading.error_term()


def _multiply_change_and_gradient(
    reading: DictionaryActivations,
    baseline: AttributionBaseline,
    g: Float[Tensor, "batch pos d_out"],
    moved: Tensor,
) -> EffectEstimates:
    """Return the effect estimates of one dictionary: for each active feature and error term, its
    change to the baseline times the gradient `g` of the target metric."""
    node = (baseline.value - reading.active.value) * reading.feature_gradients(g)
    if baseline.error is None:
        error = torch.zeros(g.shape[:2], device=g.device)
    else:
        error = ((baseline.error - reading.error_term()) * g).sum(-1)
    return EffectEstimates(reading, node, error, moved)


def _add_to_activation(change: Tensor):
    return lambda h: h + change.to(h.dtype)
