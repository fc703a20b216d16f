"""Logit lens of a direction: its direct effect on the logit of every next token.

The value of direction d for token t is (W_U centred over the vocabulary)_t · (γ ⊙ P d), with γ the
final norm's gain and P the removal of the mean under LayerNorm: the direct path, per unit of
activation, at norm scale 1, before any soft-cap. It is not defined where another norm is on the
path. The vocabulary is the tokens that the tokenizer can name: padding rows of W_U are left out.
"""

import re
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from backend.dictionaries.base import Dictionary
from backend.model.language_model import LanguageModel

STREAM_SUM_TOLERANCE = 1e-3
"""Relative error up to which residual stream in + attention + MLP counts as residual stream out, so
that the logit lens applies."""


@torch.no_grad()
def compute_logit_lens(
    lm: LanguageModel, d: Float[Tensor, "n width"], hook_out: str
) -> Float[Tensor, "n vocab"] | None:
    """Compute the logit lens of directions d [n, width] written at `hook_out`: [n, n_vocab]; None
    where it is not defined.

    It is defined on the residual stream, for what attention and MLP add to it, and for hook_z
    through W_O; a direction elsewhere (inside an MLP, before a further norm) has no direct path to
    the logits.
    """
    return _read_out(lm, map_to_residual_stream(lm, d, hook_out))


@torch.no_grad()
def lens_of_decoder_rows(
    lm: LanguageModel, dictionary: Dictionary, rows: Float[Tensor, "n d_out"]
) -> Float[Tensor, "n vocab"] | None:
    """Return the logit lens of decoder rows of a dictionary; None where it is not defined.

    With several write sites, the lens is of the sum of what the rows add to the residual stream at
    all of them, as an edit adds it; None where one of the sites has no direct path to the logits.
    """
    parts = [
        map_to_residual_stream(lm, rows[:, site.columns], site.hook) for site in dictionary.writes
    ]
    found = [part for part in parts if part is not None]
    return _read_out(lm, sum(found[1:], found[0]) if len(found) == len(parts) else None)


def _read_out(
    lm: LanguageModel, direction: Float[Tensor, "n d_model"] | None
) -> Float[Tensor, "n vocab"] | None:
    """Return the logit lens [n, n_vocab] of directions in the residual stream: logits through the
    gain of the final norm and the unembedding, with norm scale 1, minus their mean over the
    vocabulary."""
    gain = final_norm_gain(lm)
    if direction is None or gain is None:
        return None
    if lm.is_layer_norm:
        direction = direction - direction.mean(-1, keepdim=True)
    logits = (direction * gain) @ _unembedding_rows(lm).T
    return logits - logits.mean(-1, keepdim=True)  # equal to centring W_U, without its copy


@torch.inference_mode()
def feature_logit_lens(lm: LanguageModel, dictionary: Dictionary, index: int) -> np.ndarray | None:
    """Return a feature's logit lens: the effect of its decoder direction on every token's logit
    [n_vocab], or None without a direct path to the logits."""
    values = lens_of_decoder_rows(lm, dictionary, dictionary.W_dec[index : index + 1])
    return None if values is None else values[0].float().cpu().numpy()


@torch.no_grad()
def map_to_residual_stream(
    lm: LanguageModel, d: Float[Tensor, "n width"], hook_out: str
) -> Float[Tensor, "n d_model"] | None:
    """Return what directions at `hook_out` add to the residual stream [n, d_model], in float32, for
    the logit lens.

    Return None where it depends on more than the direction.
    """
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
    """Return the gain γ [d_model] of the final norm, for the logit lens; None when the model has no
    such norm."""
    return norm_gain(lm, "ln_final")


def norm_gain(lm: LanguageModel, path: str) -> Float[Tensor, "d_model"] | None:
    """Return the gain γ [d_model] of a norm of the model (1 + w where the weight is stored as an
    offset, as in Gemma); None without a norm."""
    component = lm.component(path)
    norm = getattr(component, "original_component", None)
    weight = getattr(norm, "weight", None)
    if component is None or weight is None:
        return None
    offset = bool(getattr(component.config, "rmsnorm_uses_offset", False))
    return weight.float() + 1 if offset else weight.float()


def _unembedding_rows(lm: LanguageModel) -> Float[Tensor, "vocab d_model"]:
    """Return the rows of W_U [n_vocab, d_model] in float32, of the tokens that the tokenizer can
    name."""
    head = lm.bare.get_output_embeddings()
    assert head is not None, "a causal language model has an unembedding"
    return cast(Tensor, head.weight)[: lm.n_nameable].float()


def _canonical_or_none(lm: LanguageModel, alias: str) -> str | None:
    return lm.canonical(alias) if alias in lm.hook_names() else None


def _branches_add_to_stream(lm: LanguageModel, block: str) -> bool:
    """Return whether attention and MLP outputs are added to the residual stream unchanged, tested
    on the model's probe tokens.

    Some model families scale them first, or normalise the sum; then the logit lens is not defined
    for them.
    """
    keys = ["resid_pre", "attn_out", "mlp_out", "resid_post"]
    hooks = [f"{block}.hook_{key}" for key in keys]
    if any(_canonical_or_none(lm, hook) is None for hook in hooks):
        return False
    activations = lm.activations(lm.probe_tokens, hooks)
    before, attention, mlp, after = (activations[hook].float() for hook in hooks)
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
