"""How a dictionary wants its model's weights rewritten, and the same done to activations.

TransformerLens can centre and fold weights without changing what a model says, but its activations
change. We never rewrite weights: one model serves everybody, and the few activations that differ
are computed from the raw ones. A test holds this equal to the rewritten model.
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
"""Where and how a model was loaded, not what it computes. Device, precision and implementation are
the user's choice here, BOS is always passed explicitly, and remote code runs only when the user
says so."""

STREAM_WRITE_POINTS = re.compile(
    r"blocks\.\d+\.(hook_in|hook_out|ln[12]\.hook_in|(attn|mlp)\.hook_out|(attn\.o|mlp\.out)\.hook_out)"
    r"|embed\.hook_out|pos_embed\.hook_out|ln_final\.hook_in"
)
"""Canonical hook points on the residual stream, or whose output is added to it."""

POINTS_AFTER_GAIN = re.compile(
    r"(blocks\.\d+\.ln[12]|ln_final)\.hook_out"
    r"|blocks\.\d+\.(attn|mlp|attn\.[qkv]|attn\.qkv|mlp\.in|mlp\.gate)\.hook_in|unembed\.hook_in"
)
"""Canonical hook points behind a norm's gain, which fold_ln moves into the next weights."""

VALUE_POINTS = re.compile(r"blocks\.(\d+)\.attn\.(o\.hook_in|v\.hook_out)")


@dataclass(frozen=True)
class WeightProcessing:
    """The rewriting that a dictionary was trained on; TransformerLens' names."""

    center_writing_weights: bool = False
    fold_ln: bool = False
    center_unembed: bool = False
    fold_value_biases: bool = False

    @classmethod
    def parse(cls, kwargs: Mapping[str, object] | None) -> "WeightProcessing":
        """From a dictionary's `model_from_pretrained_kwargs`; InputError for what we cannot honour.

        A key that is None or False asks for nothing.
        """
        known = {field.name for field in fields(cls)}
        given = {
            k: v
            for k, v in (kwargs or {}).items()
            if k not in LOADING_OPTIONS and v not in (None, 0)
        }
        unknown = sorted(set(given) - known)
        if unknown:
            raise InputError(
                f"The dictionary wants its model loaded with {unknown[0]}={given[unknown[0]]!r}, "
                f"which is not supported here. {list_names(sorted(known))} If it does not change "
                f"what "
                f"the model computes, add ?ignore={unknown[0]} to the dictionary's specification."
            )
        for key, value in given.items():
            if value is not True:
                raise InputError(f"{key} must be true or false, not {value!r}.")
        return cls(**dict.fromkeys(given, True))

    def __str__(self) -> str:
        on = [field.name for field in fields(self) if getattr(self, field.name)]
        return " + ".join(on) or "the weights as they are"


NO_PROCESSING = WeightProcessing()


def require_same_processing(processings: Mapping[str, WeightProcessing]) -> WeightProcessing:
    """The one processing that all dictionaries (by name) want; InputError when they differ."""
    names = list(processings)
    for name in names[1:]:
        if processings[name] != processings[names[0]]:
            raise InputError(
                f"{names[0]} expects a model with {processings[names[0]]}, {name} one with "
                f"{processings[name]}. Harvest them separately."
            )
    return processings[names[0]] if names else NO_PROCESSING


class ProcessedModel(Protocol):
    """What `transform` must know of a model."""

    @property
    def is_layer_norm(self) -> bool: ...
    def value_offset(self, layer: int, with_norm_bias: bool) -> Tensor:
        """What the value bias adds to v: [kv_heads * d_head]."""
        ...

    n_heads: int
    d_head: int


def make_activation_transform(
    processing: WeightProcessing, model: ProcessedModel, hook: str
) -> Callable[[Tensor], Tensor] | None:
    """The map from raw to processed activations at a canonical hook point; None if none is needed.

    Activations come flattened, [... width]. InputError where the processing is not defined.
    """
    if processing.center_writing_weights and not model.is_layer_norm:
        raise InputError(
            "The dictionary wants center_writing_weights, which would change what this model "
            "computes, since its norms are RMSNorm. It was trained on another model."
        )
    if processing.fold_ln and POINTS_AFTER_GAIN.fullmatch(hook):
        raise InputError(
            f"{hook} lies behind a norm's gain, which fold_ln moves elsewhere. "
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
    """Repeat each key/value head's offset for the query heads that share it."""
    heads = offset.reshape(-1, model.d_head)
    return heads.repeat_interleave(model.n_heads // len(heads), dim=0).flatten()
