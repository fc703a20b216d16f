"""The effect of every node on a target, estimated from gradients.

An effect is the change of the target when one node goes from its own value to its baseline, all
else free: positive when taking the node away raises the target. Attribution patching estimates it
to first order; integrated gradients average the derivative over the road on which all nodes of one
dictionary go together (Sparse Feature Circuits, Marks et al. 2024, eq. 2 and 3).
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
PROMPT_COPIES = 64
"""Copies of prompts in one forward pass."""


@dataclass(frozen=True)
class AttributionBaseline:
    """Where the nodes of one dictionary go."""

    value: Float[Tensor, "n"]
    """One for each active node."""
    error: Float[Tensor, "batch pos d_out"] | None = None
    """The error term's baseline; None leaves the error term as it is."""


def make_zero_baseline(reading: DictionaryActivations, *, errors: bool) -> AttributionBaseline:
    """Everything to nothing."""
    value = torch.zeros_like(reading.active.value)
    return AttributionBaseline(value, torch.zeros_like(reading.error()) if errors else None)


@dataclass(frozen=True)
class EffectEstimates:
    """One dictionary's estimated effects."""

    reading: DictionaryActivations
    node: Float[Tensor, "n"]
    """In the target's units, in the order of the reading's active nodes."""
    error: Float[Tensor, "batch pos"]
    """Of the error terms; 0 where they stay."""
    moved: Float[Tensor, "batch"]
    """The target's measured change when every node takes its baseline at once: what integrated
    gradients must add up to. NaN for the gradient method, which does not measure it."""

    @property
    def total(self) -> Float[Tensor, "batch"]:
        """The sum of all estimates for each prompt."""
        total = self.error.sum(-1)
        return total.index_add(0, self.reading.active.row, self.node.to(total.dtype))

    @property
    def error_share(self) -> float:
        """|error effects| over all |effects| at this cut of the model; NaN when there are none."""
        missed, kept = float(self.error.abs().sum()), float(self.node.abs().sum())
        return missed / (missed + kept) if missed + kept else float("nan")


def estimate_by_attribution_patching(
    lm: LanguageModel,
    readings: Sequence[DictionaryActivations],
    baselines: Mapping[str, AttributionBaseline],
    tokens: Int[Tensor, "batch pos"],
    metric: MetricFunction,
) -> list[EffectEstimates]:
    """Attribution patching for all dictionaries: one forward and one backward."""
    hooks = list(dict.fromkeys(one.dictionary.hook_out for one in readings))
    found = compute_hook_gradients(lm, tokens, hooks, metric)
    unknown = torch.full_like(found.value, float("nan"))
    return [
        _multiply_change_and_gradient(
            one, baselines[one.dictionary.name], found.by[one.dictionary.hook_out], unknown
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
    """Integrated gradients, one dictionary at a time, at the midpoints of `steps` equal parts."""
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
        summed += found.by[hook].view(len(shares), *change.shape).sum(0)
    with torch.no_grad():
        both = torch.cat([torch.zeros_like(change), change])
        value = metric(lm.logits(tokens.repeat(2, 1), {hook: _add_to_activation(both)}))
    before, after = value.chunk(2)
    return _multiply_change_and_gradient(reading, baseline, summed / steps, after - before)


def total_baseline_change(
    reading: DictionaryActivations, baseline: AttributionBaseline
) -> Float[Tensor, "batch pos d_out"]:
    """What is added to the stream when every node takes its baseline."""
    change = reading.features_part(baseline.value - reading.active.value)
    return change if baseline.error is None else change + baseline.error - reading.error()


def _multiply_change_and_gradient(
    reading: DictionaryActivations,
    baseline: AttributionBaseline,
    g: Float[Tensor, "batch pos d_out"],
    moved: Tensor,
) -> EffectEstimates:
    node = (baseline.value - reading.active.value) * reading.dots(g)
    if baseline.error is None:
        error = torch.zeros(g.shape[:2], device=g.device)
    else:
        error = ((baseline.error - reading.error()) * g).sum(-1)
    return EffectEstimates(reading, node, error, moved)


def _add_to_activation(change: Tensor):
    return lambda h: h + change.to(h.dtype)
