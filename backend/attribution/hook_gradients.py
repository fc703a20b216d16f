"""Gradients of a metric with respect to the activations at hook points, from one forward and one
backward pass."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.attribution.target_metric import MetricFunction
from backend.model.fast_forward import ActivationEdit
from backend.model.language_model import LanguageModel


class HookGradients(NamedTuple):
    """Value of a metric and, for each hook point, the activation (`activations[hook]`) and the
    gradient of the metric with respect to it (`gradients[hook]`)."""

    value: Float[Tensor, "batch"]
    activations: dict[str, Float[Tensor, "batch pos width"]]
    gradients: dict[str, Float[Tensor, "batch pos width"]]


def compute_hook_gradients(
    lm: LanguageModel,
    tokens: Int[Tensor, "batch pos"],
    hooks: Sequence[str],
    metric: MetricFunction,
    replace: Mapping[str, ActivationEdit] | None = None,
) -> HookGradients:
    """Compute a metric and its gradients with respect to the activations at the hook points
    `hooks`, all in one pass.

    Activations are those with which the model continues after the edits in `replace`. The gradient
    covers all of the computation above a hook point: attention patterns and norms are not
    frozen.
    """
    at: dict[str, Tensor] = {}
    leaves: dict[str, Tensor] = {}
    given = dict(replace or {})

    def watched(hook: str) -> ActivationEdit:
        edit = given.get(hook)

        def tap(h: Tensor) -> Tensor:
            new = h if edit is None else edit(h)
            at[hook] = new.detach()
            # A leaf of zeros, not the activation: the autograd graph starts here, so that nothing
            # below the first hook point is kept in memory.
            leaves[hook] = torch.zeros_like(new, requires_grad=True)
            return new + leaves[hook]

        return tap

    edits = {hook: watched(hook) for hook in dict.fromkeys([*hooks, *given])}
    with torch.enable_grad():
        value = metric(lm.logits(tokens, edits))
        wanted = [leaves[hook] for hook in hooks]
        found = torch.autograd.grad(value.sum(), wanted, allow_unused=True)
    by = {
        hook: torch.zeros_like(leaves[hook]) if g is None else g
        for hook, g in zip(hooks, found, strict=True)
    }
    return HookGradients(value.detach(), at, by)
