"""Loader of Gemma Scope checkpoints: a folder with params.npz, as in Google's repositories on the
Hugging Face hub.

The file holds W_enc [d_in d_sae], b_enc, W_dec [d_sae d_out], b_dec and threshold [d_sae] of a
JumpReLU SAE whose decoder bias is not subtracted from the input. Only the path names the hook
point: `gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71`.
"""

import re
from collections.abc import Callable

import torch

from backend.dictionaries.activation_rules import ThresholdRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary, single_sites
from backend.dictionaries.dictionary_sources import SCOPE_WEIGHTS, DictionarySource
from backend.dictionaries.weight_files import (
    check_coder_shapes,
    move_tensors,
    read_npz,
    take_tensor,
    weights_hash,
)
from backend.model.finite_weights import check_dictionary_finite
from feature_store.errors import InputError

SITE_HOOKS = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
"""Hook point within a block for the last part of a Gemma Scope repository's name."""
PUBLISHED_PATH = re.compile(r"gemma-scope-[\w.]+-(?:pt|it)-(res|mlp|att)/(?:.*/)?layer_(\d+)/")
L0 = re.compile(r"average_l0_(\d+)$")


def load(
    source: DictionarySource,
    device: torch.device,
    dtype: torch.dtype,
    width: Callable[[str], int] | None,
) -> Dictionary:
    """Return the Gemma Scope checkpoint in a folder as a Dictionary, with the hook point from the
    user's @HOOK or from the path."""
    path = source.path / SCOPE_WEIGHTS
    whole = source.path.resolve().as_posix()
    hook = source.hook or _find_hook_in_path(whole)
    if hook is None:
        raise InputError(
            f"{source.spec} does not say which hook point it reads, as a path such as "
            f"gemma-scope-2b-pt-res/layer_20/… would: write {source.place}@HOOK, or for a "
            f"transcoder {source.place}@HOOK,HOOK_OUT."
        )
    raw = read_npz(path)
    check_dictionary_finite(raw, str(path))
    kept = move_tensors(
        {name: take_tensor(raw, path, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec")},
        device,
        dtype,
    )
    threshold = take_tensor(raw, path, "threshold").to(device, dtype)
    check_coder_shapes(path, **kept, threshold=threshold)
    l0 = L0.search(whole)
    coder = AffineCoder(**kept, rule=ThresholdRule(threshold.clamp(min=0)))
    reads, writes = single_sites(hook, source.hook_out or hook, coder)
    return Dictionary(
        name=source.default_name,
        reads=reads,
        writes=writes,
        architecture="jumprelu_transcoder" if source.hook_out else "jumprelu",
        source=source.public,
        weights_hash=weights_hash(raw),
        coder=coder,
        metadata={"l0": float(l0[1])} if l0 else {},
    )


def _find_hook_in_path(path: str) -> str | None:
    """Return the hook point that a Gemma Scope path names; None for other paths."""
    found = PUBLISHED_PATH.search(f"{path}/")
    return f"blocks.{int(found[2])}.{SITE_HOOKS[found[1]]}" if found else None
