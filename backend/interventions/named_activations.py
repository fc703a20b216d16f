"""Activations of a few named features, and the scale of their decoder directions at each token.

A dictionary of 65,000 features need not be encoded to know three of them, unless its activation
rule compares all features (TopK): then the sparse encoder determines which survive.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.dictionaries.activation_rules import LinearRule, ThresholdRule, TopKRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary
from backend.dictionaries.direction_dictionaries import IdentityCoder

LARGEST_DENSE = 1 << 20
"""Number of pre-activations above which the sparse encoder's tiles are faster and keep
memory flat."""


@dataclass(frozen=True, eq=False)
class NamedFeatures:
    """k named features (by index) of one dictionary, whose activations and decoder directions are
    computed without encoding all features."""

    dictionary: Dictionary
    ids: Int[Tensor, "k"]

    @cached_property
    def directions(self) -> Float[Tensor, "k d_out"]:
        """Decoder rows of the named features, [k d_out], in the units of the activations that are
        written, up to `scale`."""
        return self.dictionary.W_dec[self.ids]

    def activations(self, x: Float[Tensor, "batch pos d_in"]) -> Float[Tensor, "batch pos k"]:
        """Return the activations [batch, pos, k] of the named features on x, equal to the
        dictionary's `encode`."""
        one = self.dictionary
        coder = one.coder
        if isinstance(coder, AffineCoder) and isinstance(coder.rule, ThresholdRule | LinearRule):
            return self._by_column(coder, x)
        if isinstance(coder, IdentityCoder):
            return one.encode(x)[..., self.ids]
        few = x.shape[:-1].numel() * one.d_sae <= LARGEST_DENSE
        if isinstance(coder, AffineCoder) and isinstance(coder.rule, TopKRule) and few:
            return self._by_rank(coder, coder.rule, x)
        return self._by_triples(x)

    def scale(self, x: Float[Tensor, "batch pos d_in"]) -> Float[Tensor, "batch pos 1"] | float:
        """Return the factor by which the dictionary's per-token normalisation multiplies the
        decoder directions at each token, [batch, pos, 1]; 1 without one."""
        one = self.dictionary
        if not one.per_token_norm:
            return 1.0
        # The inverse is a multiple and an offset for each token: two points on it give the slope.
        x = x.to(self.directions)
        undo = one.norm.into(x)[1]
        at = x.new_zeros(*x.shape[:-1], 1)
        return undo(at + 1) - undo(at)

    @cached_property
    def _columns(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Encoder columns, biases and thresholds of the named features."""
        coder = self.dictionary.coder
        assert isinstance(coder, AffineCoder)
        rule = coder.rule
        level = rule.threshold if isinstance(rule, ThresholdRule) else None
        weights = coder.W_enc[:, self.ids].contiguous()
        return weights, coder.b_enc[self.ids], None if level is None else level[self.ids]

    def _by_column(self, coder: AffineCoder, x: Tensor) -> Tensor:
        """Return the named features' activations from their encoder columns alone, for activation
        rules that treat each feature by itself (such as ReLU or JumpReLU)."""
        weights, bias, level = self._columns
        z = self.dictionary.norm.into(x.to(weights))[0]
        pre = coder.centre(z) @ weights + bias
        return pre if isinstance(coder.rule, LinearRule) else ThresholdRule(level).keep(pre)

    def _by_rank(self, coder: AffineCoder, rule: TopKRule, x: Tensor) -> Tensor:
        """Return the activations of a few tokens under TopK: all pre-activations, and whether the
        named features are among the k largest."""
        z = coder.centre(self.dictionary.norm.into(x.to(coder.W_enc))[0]).flatten(0, -2)
        pre = torch.addmm(coder.b_enc, z, coder.W_enc)
        ranked = pre.abs() if rule.by_magnitude else pre
        kept = ranked.topk(rule.k, dim=-1, sorted=False).indices
        mine = pre[:, self.ids] if rule.by_magnitude else pre[:, self.ids].relu()
        among = (kept[:, :, None] == self.ids).any(1)
        return (mine * among).view(*x.shape[:-1], -1)

    def _by_triples(self, x: Tensor) -> Tensor:
        """Return the named features' activations, picked from the (token, feature, value) triples
        that the sparse encoder gives for all features."""
        token, feature, value = self.dictionary.encode_sparse(x)
        mine = feature[:, None] == self.ids[None]
        found = value.new_zeros(x.shape[:-1].numel(), len(self.ids))
        at, which = mine.nonzero(as_tuple=True)
        found[token[at].long(), which] = value[at]
        return found.view(*x.shape[:-1], -1)
