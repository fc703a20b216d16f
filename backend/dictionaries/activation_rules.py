"""Activation rules: how ReLU, JumpReLU, TopK, AbsTopK, GroupMax and linear coders choose the
pre-activations that survive.

The rules are applied to dense rows here and to sparse tiles in `sparse_encoder.py`; a test requires
equal results.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ThresholdRule:
    """Activation rule of ReLU and JumpReLU: keep pre-activations above a threshold."""

    threshold: Float[Tensor, "d_sae"] | None = None
    """Threshold of each feature, never below zero; None for ReLU."""
    signed = False

    def keep(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]:
        """Return the pre-activations with those at or below the threshold set to zero."""
        if self.threshold is None:
            return pre.relu()
        return pre.relu() * (pre > self.threshold)


@dataclass(frozen=True)
class TopKRule:
    """Activation rule of TopK (keep the k largest positive pre-activations of a token) and AbsTopK
    (keep the k of largest magnitude, with sign)."""

    k: int
    by_magnitude: bool = False

    @property
    def signed(self) -> bool:
        """Whether activations keep a negative sign (AbsTopK)."""
        return self.by_magnitude

    def keep(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]:
        """Return the pre-activations with all but each token's k largest set to zero."""
        ranked = pre.abs() if self.by_magnitude else pre
        at = ranked.topk(self.k, dim=-1, sorted=False).indices
        values = pre.gather(-1, at)  # signs are lost in `ranked`
        kept = values if self.by_magnitude else values.relu()
        return torch.zeros_like(pre).scatter(-1, at, kept)


@dataclass(frozen=True)
class GroupMaxRule:
    """Activation rule of GroupMax: keep the largest of each of k groups of neighbouring features,
    if it is positive."""

    k: int
    signed = False

    def keep(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]:
        """Return the pre-activations with all but the largest of each group set to zero."""
        groups = pre.unflatten(-1, (self.k, -1)).relu()
        best, at = groups.max(dim=-1, keepdim=True)
        return torch.zeros_like(groups).scatter(-1, at, best).flatten(-2)


@dataclass(frozen=True)
class LinearRule:
    """Activation rule of plain directions: keep every pre-activation with its sign."""

    signed = True

    def keep(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]:
        """Return the pre-activations of plain directions unchanged."""
        return pre


ActivationRule = ThresholdRule | TopKRule | GroupMaxRule | LinearRule
