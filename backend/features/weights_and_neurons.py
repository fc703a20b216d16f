"""A feature beside the model's own units: dimensions, MLP neurons."""

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

MAX_LISTED_ENTRIES = 10


def find_largest_entries(values: Float[Tensor, "n"], k: int = MAX_LISTED_ENTRIES) -> LargestEntries:
    """The k entries of largest magnitude, with sign, largest first."""
    values = values.float()
    index = values.abs().topk(min(k, len(values))).indices
    return LargestEntries(index.tolist(), values[index].tolist(), len(values))


@torch.no_grad()
def read_feature_weights(lm: LanguageModel, dictionary: Dictionary, feature: int) -> FeatureWeights:
    """What the feature's encoder column and decoder row weigh most, in the model's own units."""
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
    found: tuple[int, Tensor] | None, direction: Tensor
) -> NearestNeurons | None:
    """The MLP neurons of a layer nearest to a direction, by cosine; None where there are none."""
    if found is None or found[1].shape[1] != len(direction):
        return None
    layer, rows = found
    return NearestNeurons(layer, find_largest_entries(cosines_with_direction(rows, direction)))


def neuron_input_weights(lm: LanguageModel, hook: str) -> tuple[int, Tensor] | None:
    """(layer, what each neuron reads [d_mlp d_model]) where the hook point is what an MLP reads.

    Gated neurons by their gate's weights; before the norm's gain, the gain is in the weights.
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
    """(layer, what each neuron writes [d_mlp d_model]) of the MLP that last wrote at a hook point:
    its own layer's at the MLP's output and at the block's end, the layer's below at its start."""
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
    """Of each row with a direction; 0 where one of them is zero."""
    direction = direction.to(rows)
    length = rows.norm(dim=-1) * direction.norm()
    return (rows @ direction) / length.clamp_min(1e-12)


def mlp_projection_weight(lm: LanguageModel, layer: int, name: str) -> Tensor | None:
    """The weight [out in] of one of a layer's MLP projections; None where there is no such one."""
    owner = lm.component(f"blocks.{layer}.mlp.{name}")
    module = getattr(owner, "original_component", None)
    if isinstance(module, nn.Linear):
        return module.weight.float()
    if isinstance(module, Conv1D):
        return module.weight.float().T
    return None
