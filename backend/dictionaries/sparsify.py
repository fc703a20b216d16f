"""Loader of EleutherAI's sparsify checkpoints: a folder with cfg.json and sae.safetensors.

Tensors of version 1.3: encoder.weight [num_latents d_in], encoder.bias, W_dec [num_latents d_in],
b_dec, and W_skip [d_in d_in] for skip transcoders. `activation` is topk or groupmax (the largest of
each of k groups of neighbours), both after ReLU; older files can be `signed` (the k largest by
magnitude). b_dec is subtracted from the input except in transcoders.
"""

import re
from collections.abc import Callable
from pathlib import Path

import torch

from backend.dictionaries.activation_rules import GroupMaxRule, TopKRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary, single_sites
from backend.dictionaries.dictionary_sources import SPARSIFY_WEIGHTS, DictionarySource, read_json
from backend.dictionaries.module_hook_points import EXAMPLES, ModulePoints, find_module_points
from backend.dictionaries.sparsify_config import SparsifyConfig
from backend.dictionaries.weight_files import (
    check_coder_shapes,
    move_tensors,
    read_safetensors,
    take_tensor,
    weights_hash,
)
from backend.model.finite_weights import check_dictionary_finite
from feature_store.errors import InputError


def read_sparsify_config(folder: Path) -> SparsifyConfig:
    """Return the validated cfg.json of a sparsify folder."""
    path = folder / "cfg.json"
    return SparsifyConfig.read(read_json(path), str(path))


def load(
    source: DictionarySource,
    device: torch.device,
    dtype: torch.dtype,
    width: Callable[[str], int] | None,
) -> Dictionary:
    """Return the sparsify checkpoint in a folder as a Dictionary, with the hook point of the
    folder's name or of the user."""
    config = read_sparsify_config(source.path)
    hook_name, hook_out = _find_hook_points(source, config.transcode)
    path = source.path / SPARSIFY_WEIGHTS
    state = read_safetensors(path)
    check_dictionary_finite(state, str(path))
    if "W_skip" in state and not config.skip_connection:
        raise InputError(
            f"{path} holds a W_skip, and {source.path / 'cfg.json'} has no skip_connection = true: "
            "whether it counts is not known."
        )
    kept = move_tensors(
        {
            "W_enc": take_tensor(state, path, "encoder.weight").T,
            "b_enc": take_tensor(state, path, "encoder.bias"),
            "W_dec": take_tensor(state, path, "W_dec"),
            "b_dec": take_tensor(state, path, "b_dec", "decoder.bias"),
            **({"W_skip": take_tensor(state, path, "W_skip")} if config.skip_connection else {}),
        },
        device,
        dtype,
    )
    check_coder_shapes(path, **kept)
    W_skip = kept.pop("W_skip", None)
    if wrong := config.check_sizes(*kept["W_enc"].shape):
        raise InputError(f"{source.path / 'cfg.json'} has {wrong}.")
    coder = AffineCoder(
        **kept, rule=_activation_rule(config), b_in=None if config.transcode else kept["b_dec"]
    )
    reads, writes = single_sites(hook_name, hook_out, coder)
    return Dictionary(
        name=source.default_name,
        reads=reads,
        writes=writes,
        architecture=_architecture_name(config),
        source=source.public,
        weights_hash=weights_hash(state),
        coder=coder,
        W_skip=W_skip,
        metadata={"l0": float(config.k)},
    )


def _architecture_name(config: SparsifyConfig) -> str:
    """Return the architecture's name of a sparsify checkpoint, such as `topk` or
    `groupmax_skip_transcoder`."""
    kind = "abstopk" if config.signed and config.activation == "topk" else config.activation
    skip = "skip_" if config.skip_connection else ""
    return f"{kind}_{skip}transcoder" if config.transcode else kind


def _activation_rule(config: SparsifyConfig) -> GroupMaxRule | TopKRule:
    """Return the activation rule of a sparsify checkpoint: GroupMax or TopK."""
    if config.activation == "groupmax":
        return GroupMaxRule(config.k)
    return TopKRule(config.k, by_magnitude=config.signed)


def _find_hook_points(source: DictionarySource, transcodes: bool) -> tuple[str, str]:
    """Return the hook points (read, written) of a sparsify checkpoint; InputError where neither the
    folder nor the user names them."""
    hook, hook_out = source.hook, source.hook_out
    if points := _find_folder_points(source.path.resolve()):
        hook = hook or (points.reads if transcodes else points.writes)
        hook_out = hook_out or points.writes
    if hook is None or (transcodes and hook_out is None):
        example = "HOOK,HOOK_OUT" if transcodes else "HOOK"
        raise InputError(
            f"{source.path.name} does not name a hook point ({EXAMPLES} do): write "
            f"{source.place}@{example}."
        )
    return hook, (hook_out or hook) if transcodes else hook


def _find_folder_points(folder: Path) -> ModulePoints | None:
    """Return the hook points of the module that a sparsify folder is named for; `NAME/seed3` counts
    as NAME."""
    name = folder.parent.name if re.fullmatch(r"seed\d+", folder.name) else folder.name
    return find_module_points(name)
