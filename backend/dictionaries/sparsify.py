"""Folders that EleutherAI's sparsify saves: cfg.json and sae.safetensors.

Format, read off version 1.3: encoder.weight [num_latents d_in], encoder.bias, W_dec [num_latents
d_in], b_dec, W_skip [d_in d_in] for skip transcoders. `activation` is topk or groupmax (the largest
of each of k groups of neighbours), both after ReLU; older files can be `signed`: the k largest by
magnitude. b_dec is taken off the input except in transcoders.
"""

import re
from collections.abc import Callable
from pathlib import Path

import torch

from backend.dictionaries.affine import Affine
from backend.dictionaries.base import Dictionary
from backend.dictionaries.hook_names import EXAMPLES, ModulePoints, find_module_points
from backend.dictionaries.rules import GroupMax, TopK
from backend.dictionaries.sources import SPARSIFY_WEIGHTS, Source, read_json
from backend.dictionaries.sparsify_config import SparsifyConfig
from backend.dictionaries.tensors import (
    check_coder_shapes,
    moved,
    read_safetensors,
    take,
    weights_hash,
)
from backend.finite_weights import check_finite
from feature_store.errors import InputError


def read_config(folder: Path) -> SparsifyConfig:
    """The folder's cfg.json, checked."""
    path = folder / "cfg.json"
    return SparsifyConfig.read(read_json(path), str(path))


def load(
    source: Source, device: torch.device, dtype: torch.dtype, width: Callable[[str], int] | None
) -> Dictionary:
    """The dictionary in a folder, with the hook point of the folder's name or of the user."""
    config = read_config(source.path)
    hook_name, hook_out = _hook_points(source, config.transcode)
    path = source.path / SPARSIFY_WEIGHTS
    state = read_safetensors(path)
    check_finite(state, str(path))
    if "W_skip" in state and not config.skip_connection:
        raise InputError(
            f"{path} holds a W_skip, and {source.path / 'cfg.json'} has no skip_connection = true: "
            "whether it counts is not known."
        )
    kept = moved(
        {
            "W_enc": take(state, path, "encoder.weight").T,
            "b_enc": take(state, path, "encoder.bias"),
            "W_dec": take(state, path, "W_dec"),
            "b_dec": take(state, path, "b_dec", "decoder.bias"),
            **({"W_skip": take(state, path, "W_skip")} if config.skip_connection else {}),
        },
        device,
        dtype,
    )
    check_coder_shapes(path, **kept)
    W_skip = kept.pop("W_skip", None)
    if wrong := config.check_sizes(*kept["W_enc"].shape):
        raise InputError(f"{source.path / 'cfg.json'} has {wrong}.")
    coder = Affine(**kept, rule=_rule(config), b_in=None if config.transcode else kept["b_dec"])
    return Dictionary(
        name=source.default_name,
        hook_name=hook_name,
        hook_out=hook_out,
        architecture=_architecture(config),
        source=source.public,
        weights_hash=weights_hash(state),
        coder=coder,
        W_skip=W_skip,
        metadata={"l0": float(config.k)},
    )


def _architecture(config: SparsifyConfig) -> str:
    kind = "abstopk" if config.signed and config.activation == "topk" else config.activation
    skip = "skip_" if config.skip_connection else ""
    return f"{kind}_{skip}transcoder" if config.transcode else kind


def _rule(config: SparsifyConfig) -> GroupMax | TopK:
    if config.activation == "groupmax":
        return GroupMax(config.k)
    return TopK(config.k, by_magnitude=config.signed)


def _hook_points(source: Source, transcodes: bool) -> tuple[str, str]:
    hook, hook_out = source.hook, source.hook_out
    if points := _points_of_folder(source.path.resolve()):
        hook = hook or (points.reads if transcodes else points.writes)
        hook_out = hook_out or points.writes
    if hook is None or (transcodes and hook_out is None):
        example = "HOOK,HOOK_OUT" if transcodes else "HOOK"
        raise InputError(
            f"{source.path.name} does not name a hook point ({EXAMPLES} do): write "
            f"{source.place}@{example}."
        )
    return hook, (hook_out or hook) if transcodes else hook


def _points_of_folder(folder: Path) -> ModulePoints | None:
    """The hook points of the module that a folder is named for; `NAME/seed3` is NAME's."""
    name = folder.parent.name if re.fullmatch(r"seed\d+", folder.name) else folder.name
    return find_module_points(name)
