"""Weight processing that a dictionary's model was trained with (TransformerLens' fold_ln,
centring), applied to activations instead.

TransformerLens can centre and fold weights without changing a model's output, but the activations
change. Weights are never rewritten here: one model serves everybody, and the few activations that
differ are computed from the raw ones. A test compares them with the rewritten model.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Protocol

from torch import Tensor

from feature_store.errors import InputError, list_names

LOADING_OPTIONS = frozenset(
    {
        "attn_implementation",
        "cache_dir",
        "default_padding_side",
        "default_prepend_bos",
        "device",
        "device_map",
        "dtype",
        "first_n_layers",
        "local_files_only",
        "low_cpu_mem_usage",
        "max_memory",
        "move_to_device",
        "n_ctx",
        "n_devices",
        "offload_folder",
        "subfolder",
        "token",
        "torch_dtype",
        "trust_remote_code",
        "use_auth_token",
        "use_cache",
        "use_safetensors",
        "verbose",
    }
)
"""Loading options that change where and how a model is loaded, not what it computes, so they need
no weight processing. Device, precision and implementation are the user's choice here, BOS is always
passed explicitly, and remote code runs only when the user allows it."""

STREAM_WRITE_POINTS = re.compile(
    r"blocks\.\d+\.(hook_in|hook_out|ln[12]\.hook_in|(attn|mlp)\.hook_out|(attn\.o|mlp\.out)\.hook_out)"
    r"|embed\.hook_out|pos_embed\.hook_out|ln_final\.hook_in"
)
"""Canonical hook points on the residual stream, or whose output is added to it:
center_writing_weights changes their activations."""

POINTS_AFTER_GAIN = re.compile(
    r"(blocks\.\d+\.ln[12]|ln_final)\.hook_out"
    r"|blocks\.\d+\.(attn|mlp|attn\.[qkv]|attn\.qkv|mlp\.in|mlp\.gate)\.hook_in|unembed\.hook_in"
)
"""Canonical hook points after a norm's gain, which the weight processing fold_ln moves into the
next weights."""

VALUE_POINTS = re.compile(r"blocks\.(\d+)\.attn\.(o\.hook_in|v\.hook_out)")


@dataclass(frozen=True)
class WeightProcessing:
    """Weight processing of the model that a dictionary was trained on: which of TransformerLens'
    options, such as fold_ln or center_unembed, were applied to its weights."""

    center_writing_weights: bool = False
    fold_ln: bool = False
    center_unembed: bool = False
    fold_value_biases: bool = False

    @classmethod
    def parse(cls, kwargs: Mapping[str, object] | None) -> "WeightProcessing":
        """Parse the weight processing from a dictionary's `model_from_pretrained_kwargs`.

        A key that is None or False has no effect. Raise InputError for an option that is not
        supported.
        """
        known = {field.name for field in fields(cls)}
        options = {
            k: v
            for k, v in (kwargs or {}).items()
            if k not in LOADING_OPTIONS and v not in (None, 0)
        }
        unknown = sorted(set(options) - known)
        if unknown:
            raise InputError(
                "The dictionary expects its model loaded with "
                f"{unknown[0]}={options[unknown[0]]!r}, which is not supported here. "
                f"{list_names(sorted(known))} If it does not change what the model computes, add "
                f"?ignore={unknown[0]} to the dictionary's specification."
            )
        for key, value in options.items():
            if value is not True:
                raise InputError(f"{key} must be true or false, not {value!r}.")
        return cls(**dict.fromkeys(options, True))

    def __str__(self) -> str:
        on = [field.name for field in fields(self) if getattr(self, field.name)]
        return " + ".join(on) or "unprocessed weights"


NO_PROCESSING = WeightProcessing()


def require_same_processing(processings: Mapping[str, WeightProcessing]) -> WeightProcessing:
    """Return the one weight processing that all dictionaries (by name) expect; raise InputError
    when they differ."""
    names = list(processings)
    for name in names[1:]:
        if processings[name] != processings[names[0]]:
            raise InputError(
                f"{names[0]} expects a model with {processings[names[0]]}, {name} one with "
                f"{processings[name]}. Harvest them separately."
            )
    return processings[names[0]] if names else NO_PROCESSING


class ProcessedModel(Protocol):
    """Protocol of what a model must state about itself so that weight processing can be applied to
    its activations."""

    @property
    def is_layer_norm(self) -> bool: ...
    def value_offset(self, layer: int, with_norm_bias: bool) -> Tensor:
        """Return what the value bias adds to the attention values v of a layer, for
        fold_value_biases: [kv_heads * d_head]."""
        ...

    n_heads: int
    d_head: int


def make_activation_transform(
    processing: WeightProcessing, model: ProcessedModel, hook: str
) -> Callable[[Tensor], Tensor] | None:
    """Make the function from raw to processed activations [..., width] at a canonical hook point;
    None where nothing changes.

    Raise InputError where the weight processing is not defined for this model or hook point.
    """
    if processing.center_writing_weights and not model.is_layer_norm:
        raise InputError(
            "The dictionary expects center_writing_weights, which would change what this model "
            "computes, since its norms are RMSNorm. It was trained on another model."
        )
    if processing.fold_ln and POINTS_AFTER_GAIN.fullmatch(hook):
        raise InputError(
            f"{hook} comes after a norm's gain, which fold_ln moves elsewhere. "
            "Use the norm's hook_normalized."
        )
    if processing.center_writing_weights and STREAM_WRITE_POINTS.fullmatch(hook):
        return _subtract_mean
    values = VALUE_POINTS.fullmatch(hook)
    if processing.fold_value_biases and values:
        offset = model.value_offset(int(values[1]), processing.fold_ln)
        if values[2] == "o.hook_in":
            offset = _repeat_for_query_heads(offset, model)
        return lambda z: z - offset.to(z)
    return None


def _subtract_mean(h: Tensor) -> Tensor:
    return h - h.mean(-1, keepdim=True)


def _repeat_for_query_heads(offset: Tensor, model: ProcessedModel) -> Tensor:
    """Repeat the value offset of each key/value head for the query heads that share it."""
    heads = offset.reshape(-1, model.d_head)
    return heads.repeat_interleave(model.n_heads // len(heads), dim=0).flatten()
