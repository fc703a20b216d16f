"""A dictionary in the model's place: what the text costs with it."""

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
    """Mean cross-entropy in nats of the next tokens behind counted positions."""

    tokens: int
    clean: float
    with_error: float
    """Reconstruction and error term together: the model itself, but for rounding."""
    without_error: float
    zero: float
    """The whole stream at the hook at zero."""
    mean: float
    """The whole stream at its mean over this text."""

    @property
    def recovered_zero(self) -> float:
        """(zero - spliced) ÷ (zero - clean); NaN where zeroing costs nothing."""
        return loss_recovered(self.zero, self.without_error, self.clean)

    @property
    def recovered_mean(self) -> float:
        """The same against the mean, which is harder."""
        return loss_recovered(self.mean, self.without_error, self.clean)


def loss_recovered(worst: float, found: float, best: float) -> float:
    """How much of the way from worst to best."""
    return (worst - found) / (worst - best) if worst != best else float("nan")


@torch.no_grad()
def measure_splice(
    lm: LanguageModel, dictionary: Dictionary, prompts: PaddedPrompts
) -> SpliceLosses:
    """Read prompts with the dictionary spliced in at its output hook."""
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
    """Reconstruction plus error term, both computed in the pass and put back."""
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
