"""Which pre-activations survive: the part in which ReLU, JumpReLU, TopK and their kin differ.

Dense here, sparse in `sparse.py`; a test holds the two together.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ThresholdRule:
    """Keeps what exceeds the threshold: ReLU (None: zero) and JumpReLU."""

    threshold: Float[Tensor, "d_sae"] | None = None
    """Never below zero."""
    signed = False

    def keep(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]:
        if self.threshold is None:
            return pre.relu()
        return pre.relu() * (pre > self.threshold)


@dataclass(frozen=True)
class TopKRule:
    """Keeps the k largest, of which none below zero; or the k of largest magnitude, with signs."""

    k: int
    by_magnitude: bool = False

    @property
    def signed(self) -> bool:
        return self.by_magnitude

    def keep(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]:
        ranked = pre.abs() if self.by_magnitude else pre
        at = ranked.topk(self.k, dim=-1, sorted=False).indices
        values = pre.gather(-1, at)
        kept = values if self.by_magnitude else values.relu()
        return torch.zeros_like(pre).scatter(-1, at, kept)


@dataclass(frozen=True)
class GroupMaxRule:
    """Keeps the largest of each of k groups of neighbouring features, if it is positive."""

    k: int
    signed = False

    def keep(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]:
        groups = pre.unflatten(-1, (self.k, -1)).relu()
        best, at = groups.max(dim=-1, keepdim=True)
        return torch.zeros_like(groups).scatter(-1, at, best).flatten(-2)


@dataclass(frozen=True)
class LinearRule:
    """Keeps everything: directions read as they are, with sign."""

    signed = True

    def keep(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]:
        return pre


ActivationRule = ThresholdRule | TopKRule | GroupMaxRule | LinearRule
