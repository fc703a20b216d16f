"""Direct feature attribution of an attention feature's activation to heads and source tokens.

At hook_z the activation of head h is z[t, h] = Σ_s A[h, t, s] v[s, h']: a sum over source tokens s,
with A the attention pattern and h' the key/value head that h shares. A linear encoder carries the
sum on to its pre-activation, so that each (head, source) has an exact part in it once the pattern
is held fixed (Kissane et al. 2024, arXiv:2406.17759).
"""

import re

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary
from backend.engine_protocol import DirectFeatureAttribution
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError

Z_SUM_TOLERANCE = 1e-3
"""Relative error up to which attention pattern × values counts as the model's z, so that direct
feature attribution is defined."""


def reads_attention_z(lm: LanguageModel, dictionary: Dictionary) -> bool:
    """Return whether a dictionary reads an attention layer's hook_z, where the heads' outputs are
    concatenated."""
    if dictionary.has_several_sites:
        return False
    layer = layer_of_hook(dictionary.hook_name)
    z = f"blocks.{layer}.attn.hook_z"
    return layer is not None and lm.canonical(dictionary.hook_name) == lm.canonical(z)


def layer_of_hook(hook: str) -> int | None:
    """Return the layer (block number) in a hook point's name; None outside blocks."""
    match = re.match(r"blocks\.(\d+)\.", hook)
    return int(match[1]) if match else None


@torch.no_grad()
def head_norm_shares(lm: LanguageModel, w: Float[Tensor, "width"]) -> Float[Tensor, "heads"]:
    """Return each attention head's share [heads] of a direction at hook_z: the norm of its block
    over the sum of the norms."""
    norms = w.float().view(lm.n_heads, -1).norm(dim=-1)
    return norms / norms.sum().clamp_min(1e-12)


def linearise_preactivation(
    lm: LanguageModel, dictionary: Dictionary, feature: int
) -> tuple[Float[Tensor, "d_in"], Float[Tensor, ""]]:
    """Return (g, b) such that an attention feature's pre-activation is g · z + b for the raw
    activation z at hook_z: encoder, scale and offsets combined.

    Raise InputError where the pre-activation is not linear in the activation.
    """
    coder = dictionary.coder
    if not isinstance(coder, AffineCoder) or dictionary.per_token_norm:
        raise InputError(
            f"Source tokens are not defined for {dictionary.name}: its encoder is not one linear "
            "map of the activation. Use the heads' shares of the decoder norm instead."
        )
    with torch.enable_grad():
        activation = torch.zeros(
            dictionary.d_in, device=coder.W_enc.device, dtype=coder.W_enc.dtype
        )
        activation.requires_grad_(True)
        x = lm.process(dictionary.hook_name, activation, dictionary.processing)
        z = coder.centre(dictionary.norm.into(x)[0])
        value = z @ coder.W_enc[:, feature] + coder.b_enc[feature]
        (slope,) = torch.autograd.grad(value, activation)
    return slope, value.detach()


@torch.no_grad()
def attribute_to_source_tokens(
    lm: LanguageModel, dictionary: Dictionary, feature: int, tokens: Int[Tensor, "pos"], peak: int
) -> DirectFeatureAttribution:
    """Attribute a feature's pre-activation at position `peak` to attention heads and source tokens.

    Raise InputError for a dictionary that does not read hook_z, and where pattern × values is not
    the model's z.
    """
    if not reads_attention_z(lm, dictionary):
        raise InputError(
            f"{dictionary.name} reads {', '.join(dictionary.read_hooks)}; source tokens exist only "
            "for dictionaries on an attention layer's hook_z."
        )
    block = f"blocks.{layer_of_hook(dictionary.hook_name)}.attn"
    names = [f"{block}.hook_{key}" for key in ("pattern", "v", "z")]
    pattern, v, z = lm.bridge_activations(tokens[None, : peak + 1], names).values()
    attention = pattern[0, :, peak].float()  # [heads source]
    kv_values = v[0].reshape(peak + 1, -1, lm.d_head).float()  # [source kv_heads d_head]
    values = kv_values.repeat_interleave(lm.n_heads // kv_values.shape[1], dim=1)
    rebuilt = torch.einsum("hs,shd->hd", attention, values)
    actual = z[0, peak].float().reshape(lm.n_heads, -1)
    if (rebuilt - actual).norm() > Z_SUM_TOLERANCE * actual.norm().clamp_min(
        1e-6
    ) * dtype_tolerance_factor(lm):
        raise InputError(
            f"In {lm.name} attention patterns times values do not sum to {names[-1]}, so source "
            "tokens are not defined."
        )
    slope, bias = linearise_preactivation(lm, dictionary, feature)
    parts = torch.einsum("hs,shd,hd->hs", attention, values, slope.float().view(lm.n_heads, -1))
    return DirectFeatureAttribution(parts.cpu().numpy(), attention.cpu().numpy(), float(bias))


def dtype_tolerance_factor(lm: LanguageModel) -> float:
    """Return how much coarser than float32 the model's dtype is, to scale the tolerance of direct
    feature attribution."""
    return 1 if lm.placement.dtype in (torch.float32, torch.float64) else 50
