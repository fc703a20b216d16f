"""Splice a dictionary into the model in place of the activation that it reconstructs, and measure
what its reconstruction costs in next-token loss.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from backend.ablation.model_parts import ModelPart
from backend.ablation.padded_prompts import PaddedPrompts
from backend.ablation.part_edits import (
    PartLocation,
    compile_part_edits,
    locate_part,
    read_dictionary,
)
from backend.dictionaries.base import Dictionary
from backend.model.fast_forward import ActivationEdit
from backend.model.language_model import LanguageModel


@dataclass(frozen=True)
class SpliceLosses:
    """Mean next-token cross-entropy in nats, after counted positions, of the clean model and of the
    model with a dictionary spliced in.
    """

    tokens: int
    clean: float
    with_error: float
    """Loss with reconstruction plus error term: equal to the clean loss up to rounding."""
    without_error: float
    zero: float
    """Loss with the activation at the hook set to zero."""
    mean: float
    """Loss with the activation at the hook set to its mean over this text."""

    @property
    def recovered_zero(self) -> float:
        """Share of the loss recovered by the splice compared with zero ablation of the hook; NaN
        where zeroing costs nothing.
        """
        return loss_recovered(self.zero, self.without_error, self.clean)

    @property
    def recovered_mean(self) -> float:
        """Share of the loss recovered by the splice compared with mean ablation of the hook, a
        stricter baseline.
        """
        return loss_recovered(self.mean, self.without_error, self.clean)


def loss_recovered(worst: float, found: float, best: float) -> float:
    """Return the share of loss recovered: (worst − found) ÷ (worst − best); NaN if worst equals
    best.
    """
    return (worst - found) / (worst - best) if worst != best else float("nan")


@torch.no_grad()
def measure_splice(
    lm: LanguageModel, dictionary: Dictionary, prompts: PaddedPrompts
) -> SpliceLosses:
    """Run prompts with the dictionary spliced in at its output hook and return the losses."""
    counted = prompts.counted.to(lm.placement.device)
    judged = counted[:, :-1] & prompts.real[:, 1:].to(counted.device)

    def cost(change: dict[str, ActivationEdit]) -> float:
        return float(lm.token_losses(prompts.tokens, change)[judged].mean())

    error = locate_part(lm, {dictionary.name: dictionary}, ModelPart("error", dictionary.name))
    part = error.part
    hook = error.hook

    def whole(value: ActivationEdit) -> dict[str, ActivationEdit]:
        return {hook: lambda h: torch.where(counted[..., None], value(h), h)}

    return SpliceLosses(
        tokens=int(judged.sum()),
        clean=cost({}),
        with_error=cost(restore_with_error(lm, error, counted)),
        without_error=cost(compile_part_edits(lm, [error], {part: 0.0}, counted)),
        zero=cost(whole(torch.zeros_like)),
        mean=cost(whole(lambda h: h[counted].mean(0).expand_as(h))),
    )


def restore_with_error(
    lm: LanguageModel, error: PartLocation, counted: Tensor
) -> dict[str, ActivationEdit]:
    """Return the edits that replace an activation by reconstruction plus error term, both computed
    during the forward pass.
    """
    one = error.dictionary
    assert one is not None, "an error term belongs to a dictionary"
    read: dict[str, Tensor] = {}

    def keep(h: Tensor) -> Tensor:
        read["x"] = h
        return h

    def rebuild(h: Tensor) -> Tensor:
        x = lm.process(error.read_at, read.get("x", h), one.processing)
        whole = read_dictionary(one, h, x, counted)
        both = one.reconstruct(whole.x) + whole.error()
        return torch.where(counted[..., None], both.to(h.dtype), h)

    found: dict[str, ActivationEdit] = {error.hook: rebuild}
    if error.read_at != error.hook:
        found[error.read_at] = keep
    return found
