"""Which heads matter, measured: each head's output replaced by its mean. The truth for rankings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backend.ablation.padded_prompts import PaddedPrompts
from backend.attribution.hook_gradients import compute_hook_gradients
from backend.attribution.target_metric import TargetMetric
from backend.model.fast_forward import ActivationEdit
from backend.model.language_model import LanguageModel
from feature_store.statistics.bootstrap_t import estimate_mean

LEAST_SHARE = 0.1
"""Of the target's mean, for a head to count."""


@dataclass(frozen=True, eq=False)
class HeadEffects:
    """What each prompt's target loses when one head gives its mean over all prompts instead."""

    clean: Float[np.ndarray, "prompt"]
    lost: Float[np.ndarray, "prompt layer head"]
    """Clean less ablated, in the target's units."""
    estimated: Float[np.ndarray, "prompt layer head"]
    """The same by attribution patching: to first order, from one backward pass."""

    @property
    def truth(self) -> Bool[np.ndarray, "layer head"]:
        """Heads whose mean effect is at least LEAST_SHARE of the target's mean, with an interval
        over prompts that leaves out 0."""
        least = LEAST_SHARE * abs(float(self.clean.mean()))
        found = np.zeros(self.lost.shape[1:], bool)
        for layer, head in np.ndindex(found.shape):
            one = estimate_mean(self.lost[:, layer, head])
            sure = one.low is not None and one.high is not None and one.low * one.high > 0
            found[layer, head] = sure and abs(one.number) >= least
        return found


@torch.no_grad()
def head_effects(
    lm: LanguageModel, prompts: PaddedPrompts, target: TargetMetric, *, at_last: bool = False
) -> HeadEffects:
    """By layers × heads + 2 forward passes and one backward; at counted positions only.

    With `at_last`, at each prompt's last token only: what heads do where head-codes read them.
    """
    hooks = [f"blocks.{layer}.attn.hook_z" for layer in range(lm.n_layers)]
    counted = prompts.counted.to(lm.placement.device)
    if at_last:
        last = prompts.last.to(counted.device)[:, None]
        counted = counted & (torch.arange(counted.shape[1], device=counted.device) == last)
    found = compute_hook_gradients(lm, prompts.tokens, hooks, target)
    means = {hook: found.activations[hook][counted].mean(0) for hook in hooks}
    lost, estimated = [], []
    for hook in hooks:
        moved = (means[hook] - found.activations[hook]) * counted[..., None]
        by_head = (moved * found.gradients[hook]).unflatten(-1, (lm.n_heads, -1)).sum((1, -1))
        estimated.append(-by_head)
        for head in range(lm.n_heads):
            edit = _meaning(means[hook], counted, _block(lm, head))
            lost.append(found.value - target(lm.logits(prompts.tokens, {hook: edit})))
    shape = (len(prompts), lm.n_layers, lm.n_heads)
    return HeadEffects(
        found.value.cpu().double().numpy(),
        torch.stack(lost, 1).view(shape).cpu().double().numpy(),
        torch.stack(estimated, 1).cpu().double().numpy(),
    )


def _block(lm: LanguageModel, head: int) -> slice:
    return slice(head * lm.d_head, (head + 1) * lm.d_head)


def _meaning(mean: Tensor, counted: Tensor, block: slice) -> ActivationEdit:
    def edit(z: Tensor) -> Tensor:
        new = z.clone()
        new[..., block] = torch.where(counted[..., None], mean[block].to(z.dtype), z[..., block])
        return new

    return edit


def auc(
    scores: Float[np.ndarray, "..."] | Sequence[float], truth: Bool[np.ndarray, "..."]
) -> float | None:
    """The chance that a head that matters scores above one that does not (ties count half); None
    where all or none matter."""
    flat, known = np.asarray(scores, float).ravel(), np.asarray(truth).ravel()
    inside, outside = flat[known], flat[~known]
    if not len(inside) or not len(outside):
        return None
    above = (inside[:, None] > outside).mean() + (inside[:, None] == outside).mean() / 2
    return float(above)


def shuffled_auc(
    scores: Float[np.ndarray, "..."], truth: Bool[np.ndarray, "..."], draws: int = 1000
) -> Float[np.ndarray, "draw"]:
    """The same for heads in random order: what chance gives."""
    rng, flat = np.random.default_rng(0), np.asarray(scores, float).ravel()
    found = [auc(rng.permutation(flat), truth) for _ in range(draws)]
    return np.array([np.nan if one is None else one for one in found])
