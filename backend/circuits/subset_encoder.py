"""Encoder for a subset of a dictionary's features: their activations at many tokens, equal to those
of the full encoder."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.dictionaries.activation_rules import TopKRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary
from backend.interventions.named_activations import NamedFeatures

TILE_NUMBERS = 1 << 22
"""Maximum number of pre-activations in one tile of tokens that the subset encoder compares: 16 MB
in float32."""


def encode_feature_subset(
    d: Dictionary, ids: Int[Tensor, "k"], x: Float[Tensor, "batch pos d_in"]
) -> Float[Tensor, "batch pos k"]:
    """Encode the activations of the features `ids` alone, [batch, position, k]. For TopK encoders
    the pre-activations of all features are compared, one tile of tokens at a time."""
    coder = d.coder
    if not isinstance(coder, AffineCoder) or not isinstance(coder.rule, TopKRule):
        return NamedFeatures(d, ids).activations(x)
    z = coder.centre(d.norm.into(x.to(coder.W_enc))[0]).flatten(0, -2)
    parts = [
        _encode_top_k(coder, coder.rule, one, ids)
        for one in z.split(max(1, TILE_NUMBERS // d.d_sae))
    ]
    return torch.cat(parts).view(*x.shape[:-1], len(ids))


def _encode_top_k(coder: AffineCoder, rule: TopKRule, z: Tensor, ids: Tensor) -> Tensor:
    """Encode a subset of the features of a TopK dictionary: a feature is active if its
    pre-activation is among the k largest of all features."""
    with torch.no_grad():  # the top-k gate has no gradient, only the surviving activations have
        pre = torch.addmm(coder.b_enc, z, coder.W_enc)
        ranked = pre.abs() if rule.by_magnitude else pre
        least = ranked.topk(rule.k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
        gate = ranked[:, ids] >= least
    if torch.is_grad_enabled():
        pre = torch.addmm(coder.b_enc[ids], z, coder.W_enc[:, ids])
    else:
        pre = pre[:, ids]
    return pre * gate if rule.by_magnitude else pre.relu() * gate
