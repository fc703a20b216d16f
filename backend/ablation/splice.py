"""A dictionary in the model's place: what the text costs with it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from backend.ablation.changes import Site, edits, reading_of, site
from backend.ablation.parts import Part
from backend.ablation.prompts import Prompts
from backend.dictionaries.base import Dictionary
from backend.lm import Lm
from backend.trunk import Edit


@dataclass(frozen=True)
class Spliced:
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
        return share(self.zero, self.without_error, self.clean)

    @property
    def recovered_mean(self) -> float:
        """The same against the mean, which is harder."""
        return share(self.mean, self.without_error, self.clean)


def share(worst: float, found: float, best: float) -> float:
    """How much of the way from worst to best."""
    return (worst - found) / (worst - best) if worst != best else float("nan")


@torch.no_grad()
def splice(lm: Lm, dictionary: Dictionary, prompts: Prompts) -> Spliced:
    """Read prompts with the dictionary spliced in at its output hook."""
    counted = prompts.counted.to(lm.placement.device)
    judged = counted[:, :-1] & prompts.real[:, 1:].to(counted.device)

    def cost(change: dict[str, Edit]) -> float:
        return float(lm.token_losses(prompts.tokens, change)[judged].mean())

    error = site(lm, {dictionary.name: dictionary}, Part("error", dictionary.name))
    part = error.part
    hook = error.hook

    def whole(value: Edit) -> dict[str, Edit]:
        return {hook: lambda h: torch.where(counted[..., None], value(h), h)}

    return Spliced(
        tokens=int(judged.sum()),
        clean=cost({}),
        with_error=cost(again(lm, error, counted)),
        without_error=cost(edits(lm, [error], {part: 0.0}, counted)),
        zero=cost(whole(torch.zeros_like)),
        mean=cost(whole(lambda h: h[counted].mean(0).expand_as(h))),
    )


def again(lm: Lm, error: Site, counted: Tensor) -> dict[str, Edit]:
    """Reconstruction plus error term, both computed in the pass and put back."""
    one = error.dictionary
    assert one is not None, "an error term belongs to a dictionary"
    read: dict[str, Tensor] = {}

    def keep(h: Tensor) -> Tensor:
        read["x"] = h
        return h

    def rebuild(h: Tensor) -> Tensor:
        x = lm.process(error.read_at, read.get("x", h), one.processing)
        whole = reading_of(one, h, x, counted)
        both = one.reconstruct(whole.x) + whole.error()
        return torch.where(counted[..., None], both.to(h.dtype), h)

    found: dict[str, Edit] = {error.hook: rebuild}
    if error.read_at != error.hook:
        found[error.read_at] = keep
    return found
