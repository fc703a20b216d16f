"""The logit lens: which next tokens a direction speaks for, on the direct path to the logits.

Value of direction d for token t: (W_U centred over the vocabulary)_t · (γ ⊙ P d), with γ the final
norm's gain, P the removal of the mean under LayerNorm: the direct path, per unit of activation, at
norm scale 1, before any soft-cap. Where another norm lies on the path it is not defined. The
vocabulary are the tokens that the tokenizer can name: padding rows of W_U stay out.
"""

import re
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from backend.model.language_model import LanguageModel

STREAM_SUM_TOLERANCE = 1e-3
"""Relative error up to which stream in + attention + MLP counts as stream out."""


@torch.no_grad()
def compute_logit_lens(
    lm: LanguageModel, d: Float[Tensor, "n width"], hook_out: str
) -> Float[Tensor, "n vocab"] | None:
    """Lens values of the directions `d` written at `hook_out`; None where they are not defined.

    Defined on the residual stream, for what attention and MLP add to it, and for hook_z through
    W_O; a feature that lives elsewhere (inside an MLP, before a further norm) has no direct path.
    """
    direction = map_to_residual_stream(lm, d, hook_out)
    gain = final_norm_gain(lm)
    if direction is None or gain is None:
        return None
    if lm.is_layer_norm:
        direction = direction - direction.mean(-1, keepdim=True)
    logits = (direction * gain) @ _unembedding_rows(lm).T
    return logits - logits.mean(-1, keepdim=True)  # equal to centring W_U, without its copy


@torch.no_grad()
def map_to_residual_stream(
    lm: LanguageModel, d: Float[Tensor, "n width"], hook_out: str
) -> Float[Tensor, "n d_model"] | None:
    """What `d` at `hook_out` adds to the residual stream, in float32; None where that depends on
    more than d."""
    canonical = lm.canonical(hook_out)
    layer = re.match(r"blocks\.\d+(?=\.)", canonical)
    if layer is None:
        return None
    block = layer[0]
    names = {
        key: _canonical_or_none(lm, f"{block}.hook_{key}") for key in STREAM_POINTS + BRANCH_POINTS
    }
    if canonical in [names[key] for key in STREAM_POINTS]:
        return d.float()
    if not _branches_add_to_stream(lm, block):
        return None
    if canonical in [names[key] for key in BRANCH_POINTS]:
        return d.float()
    z, attention = f"{block}.attn.o.hook_in", f"{block}.attn.hook_out"
    if canonical == z and names["attn_out"] == attention:
        return _project_through_w_o(lm, block, d)
    return None


STREAM_POINTS = ["resid_pre", "resid_mid", "resid_post"]
BRANCH_POINTS = ["attn_out", "mlp_out"]


def final_norm_gain(lm: LanguageModel) -> Float[Tensor, "d_model"] | None:
    """γ of the final norm; None without one."""
    return norm_gain(lm, "ln_final")


def norm_gain(lm: LanguageModel, path: str) -> Float[Tensor, "d_model"] | None:
    """γ of a norm of the model (1 + w where the weight is an offset, as in Gemma); None without."""
    component = lm.component(path)
    norm = getattr(component, "original_component", None)
    weight = getattr(norm, "weight", None)
    if component is None or weight is None:
        return None
    offset = bool(getattr(component.config, "rmsnorm_uses_offset", False))
    return weight.float() + 1 if offset else weight.float()


def _unembedding_rows(lm: LanguageModel) -> Float[Tensor, "vocab d_model"]:
    """W_U by rows, in float32, of the tokens that can be named."""
    head = lm.bare.get_output_embeddings()
    assert head is not None, "a causal language model has an unembedding"
    return cast(Tensor, head.weight)[: lm.n_nameable].float()


def _canonical_or_none(lm: LanguageModel, alias: str) -> str | None:
    return lm.canonical(alias) if alias in lm.hook_names() else None


def _branches_add_to_stream(lm: LanguageModel, block: str) -> bool:
    """Whether attention and MLP enter the stream as they are, seen on the probe.

    Some families scale them on the way, or normalise the sum.
    """
    keys = ["resid_pre", "attn_out", "mlp_out", "resid_post"]
    hooks = [f"{block}.hook_{key}" for key in keys]
    if any(_canonical_or_none(lm, hook) is None for hook in hooks):
        return False
    got = lm.activations(lm.probe_tokens, hooks)
    before, attention, mlp, after = (got[hook].float() for hook in hooks)
    error = (before + attention + mlp - after).norm() / after.norm()
    return bool(error < STREAM_SUM_TOLERANCE * (1 if lm.placement.dtype == torch.float32 else 50))


def _project_through_w_o(
    lm: LanguageModel, block: str, d: Float[Tensor, "n width"]
) -> Float[Tensor, "n d_model"] | None:
    projection = getattr(lm.component(f"{block}.attn.o"), "original_component", None)
    if projection is None:
        return None
    d = d.to(lm.placement.device, lm.placement.dtype)
    return (projection(d) - projection(torch.zeros_like(d[:1]))).float()
