"""Where an attention feature's activation comes from: heads, and the tokens they looked at.

At hook_z the activation of head h is z[t, h] = Σ_s A[h, t, s] v[s, h']: a sum over source tokens s,
with A the attention pattern and h' the key/value head that h shares. A linear encoder carries the
sum on to its pre-activation, so that each (head, source) has an exact part in it once the pattern
is held fixed: direct feature attribution (Kissane et al. 2024, arXiv:2406.17759).
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
"""Relative error up to which patterns × values count as the z that the model has."""


def reads_attention_z(lm: LanguageModel, dictionary: Dictionary) -> bool:
    """Whether it reads an attention layer's hook_z, where heads stand side by side."""
    layer = layer_of_hook(dictionary.hook_name)
    z = f"blocks.{layer}.attn.hook_z"
    return layer is not None and lm.canonical(dictionary.hook_name) == lm.canonical(z)


def layer_of_hook(hook: str) -> int | None:
    """The block of a hook point's name; None outside blocks."""
    found = re.match(r"blocks\.(\d+)\.", hook)
    return int(found[1]) if found else None


@torch.no_grad()
def head_norm_shares(lm: LanguageModel, w: Float[Tensor, "width"]) -> Float[Tensor, "heads"]:
    """The norm of each head's block of a direction at hook_z, over the sum of the norms."""
    norms = w.float().view(lm.n_heads, -1).norm(dim=-1)
    return norms / norms.sum().clamp_min(1e-12)


def linearise_preactivation(
    lm: LanguageModel, dictionary: Dictionary, feature: int
) -> tuple[Float[Tensor, "d_in"], Float[Tensor, ""]]:
    """(g, b) with pre-activation = g · raw activation + b: encoder, scale and offsets in one.

    InputError where the pre-activation is no such map.
    """
    coder = dictionary.coder
    if not isinstance(coder, AffineCoder) or dictionary.per_token_norm:
        raise InputError(
            f"Source tokens are not defined for {dictionary.name}: its encoder is not one linear "
            "map of the activation. Heads' shares by decoder norm are."
        )
    with torch.enable_grad():
        at = torch.zeros(dictionary.d_in, device=coder.W_enc.device, dtype=coder.W_enc.dtype)
        at.requires_grad_(True)
        x = lm.process(dictionary.hook_name, at, dictionary.processing)
        z = coder.centre(dictionary.norm.into(x)[0])
        value = z @ coder.W_enc[:, feature] + coder.b_enc[feature]
        (slope,) = torch.autograd.grad(value, at)
    return slope, value.detach()


@torch.no_grad()
def attribute_to_source_tokens(
    lm: LanguageModel, dictionary: Dictionary, feature: int, tokens: Int[Tensor, "pos"], peak: int
) -> DirectFeatureAttribution:
    """The parts of a feature's pre-activation at `peak`, by head and source token."""
    if not reads_attention_z(lm, dictionary):
        raise InputError(
            f"{dictionary.name} reads {dictionary.hook_name}; source tokens exist only for "
            "dictionaries on an attention layer's hook_z."
        )
    block = f"blocks.{layer_of_hook(dictionary.hook_name)}.attn"
    names = [f"{block}.hook_{key}" for key in ("pattern", "v", "z")]
    pattern, v, z = lm.cached(tokens[None, : peak + 1], names).values()
    rows = pattern[0, :, peak].float()  # [heads source]
    shared = v[0].reshape(peak + 1, -1, lm.d_head).float()  # [source kv_heads d_head]
    values = shared.repeat_interleave(lm.n_heads // shared.shape[1], dim=1)
    built = torch.einsum("hs,shd->hd", rows, values)
    given = z[0, peak].float().reshape(lm.n_heads, -1)
    if (built - given).norm() > Z_SUM_TOLERANCE * given.norm().clamp_min(
        1e-6
    ) * dtype_tolerance_factor(lm):
        raise InputError(
            f"In {lm.name} attention patterns times values do not make up {names[-1]}, so source "
            "tokens are not defined."
        )
    slope, bias = linearise_preactivation(lm, dictionary, feature)
    parts = torch.einsum("hs,shd,hd->hs", rows, values, slope.float().view(lm.n_heads, -1))
    return DirectFeatureAttribution(parts.cpu().numpy(), rows.cpu().numpy(), float(bias))


def dtype_tolerance_factor(lm: LanguageModel) -> float:
    """How much coarser than float32 the model's own arithmetic is."""
    return 1 if lm.placement.dtype in (torch.float32, torch.float64) else 50
