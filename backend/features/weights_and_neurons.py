"""Largest weights of a feature in the model's own units (dimensions, heads), and the MLP neurons
nearest to its directions."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from backend.dictionaries.base import Dictionary
from backend.engine_protocol import FeatureWeights, LargestEntries, NearestNeurons
from backend.features.direct_feature_attribution import (
    head_norm_shares,
    layer_of_hook,
    reads_attention_z,
)
from backend.features.logit_lens import norm_gain
from backend.model.language_model import LanguageModel
from feature_store.hook_sites import check_single_sites

MAX_LISTED_ENTRIES = 10


def find_largest_entries(values: Float[Tensor, "n"], k: int = MAX_LISTED_ENTRIES) -> LargestEntries:
    """Return the k entries of largest magnitude of a weight vector, with their signs, largest
    first."""
    values = values.float()
    index = values.abs().topk(min(k, len(values))).indices
    return LargestEntries(index.tolist(), values[index].tolist(), len(values))


@torch.no_grad()
def read_feature_weights(lm: LanguageModel, dictionary: Dictionary, feature: int) -> FeatureWeights:
    """Read the largest weights of a feature's encoder column and decoder row: dimensions, attention
    heads, nearest neurons."""
    check_single_sites([dictionary], "Largest weights and nearest neurons")
    read, write = lm.canonical(dictionary.hook_name), lm.canonical(dictionary.hook_out)
    column = None if dictionary.W_enc is None else dictionary.W_enc[:, feature]
    row = dictionary.coder.W_dec[feature]
    heads = reads_attention_z(lm, dictionary)
    return FeatureWeights(
        encoder=None if column is None else find_largest_entries(column),
        decoder=find_largest_entries(row),
        encoder_heads=head_norm_shares(lm, column).tolist()
        if heads and column is not None
        else None,
        decoder_heads=head_norm_shares(lm, row).tolist() if heads else None,
        readers=None
        if column is None
        else find_nearest_neurons(neuron_input_weights(lm, read), column),
        writers=find_nearest_neurons(neuron_output_weights(lm, write), row),
    )


def find_nearest_neurons(
    weights: tuple[int, Tensor] | None, direction: Tensor
) -> NearestNeurons | None:
    """Find the MLP neurons whose weights have the largest cosine with a feature's direction; None
    where the hook point has no neurons."""
    if weights is None or weights[1].shape[1] != len(direction):
        return None
    layer, rows = weights
    return NearestNeurons(layer, find_largest_entries(cosines_with_direction(rows, direction)))


def neuron_input_weights(lm: LanguageModel, hook: str) -> tuple[int, Tensor] | None:
    """Return (layer, input weights of its MLP neurons [d_mlp, d_model]) where a feature reads the
    MLP's input; else None.

    Gated neurons are taken by the weights of their gate; before a norm's gain, the gain is
    multiplied into the weights.
    """
    layer = layer_of_hook(hook)
    if layer is None:
        return None
    points: dict[str, Tensor | None] = {
        f"blocks.{layer}.mlp.hook_in": None,
        f"blocks.{layer}.ln2.hook_out": None,
        f"blocks.{layer}.ln2.hook_normalized": norm_gain(lm, f"blocks.{layer}.ln2"),
    }
    gate = mlp_projection_weight(lm, layer, "gate")
    weight = mlp_projection_weight(lm, layer, "in") if gate is None else gate
    if hook not in points or weight is None:
        return None
    scale = points[hook]
    return layer, weight if scale is None else weight * scale


def neuron_output_weights(lm: LanguageModel, hook: str) -> tuple[int, Tensor] | None:
    """Return (layer, output weights [d_mlp, d_model]) of the MLP neurons that last wrote at a hook
    point.

    That is the hook's own layer at the MLP's output and the end of a block, and the layer before it
    at the start of a block.
    """
    layer = layer_of_hook(hook)
    if layer is None:
        return None
    ends = [f"blocks.{layer}.hook_{key}" for key in ("mlp_out", "resid_post")]
    starts = [f"blocks.{layer}.hook_resid_{key}" for key in ("pre", "mid")]
    if hook in [lm.canonical(name) for name in ends if name in lm.hook_names()]:
        below = layer
    elif hook in [lm.canonical(name) for name in starts if name in lm.hook_names()]:
        below = layer - 1
    else:
        return None
    weight = mlp_projection_weight(lm, below, "out") if below >= 0 else None
    return None if weight is None else (below, weight.T)


def cosines_with_direction(
    rows: Float[Tensor, "n d"], direction: Float[Tensor, "d"]
) -> Float[Tensor, "n"]:
    """Return the cosine of each neuron's weights [n, d] with a feature's direction [d]; 0 where
    either is zero."""
    direction = direction.to(rows)
    length = rows.norm(dim=-1) * direction.norm()
    return (rows @ direction) / length.clamp_min(1e-12)


def mlp_projection_weight(lm: LanguageModel, layer: int, name: str) -> Tensor | None:
    """Return the weight [out, in] of one of a layer's MLP projections (`in`, `gate`, `out`), whose
    neurons are compared; None if absent."""
    owner = lm.component(f"blocks.{layer}.mlp.{name}")
    module = getattr(owner, "original_component", None)
    if isinstance(module, nn.Linear):
        return module.weight.float()
    if isinstance(module, Conv1D):
        return module.weight.float().T
    return None
