"""Folders that EleutherAI's sparsify saves: cfg.json and sae.safetensors.

Format, read off version 1.3: encoder.weight [num_latents d_in], encoder.bias, W_dec [num_latents
d_in], b_dec, W_skip [d_in d_in] for skip transcoders. `activation` is topk or groupmax (the largest
of each of k groups of neighbours), both after ReLU; older files can be `signed`: the k largest by
magnitude. b_dec is taken off the input except in transcoders.
"""

import re
from collections.abc import Callable, Mapping

import torch

from backend.dictionaries.affine import Affine
from backend.dictionaries.base import Dictionary
from backend.dictionaries.rules import GroupMax, TopK
from backend.dictionaries.sources import SPARSIFY_WEIGHTS, Source, read_json
from backend.dictionaries.tensors import moved, read_safetensors, take, weights_hash
from feature_store.errors import InputError

HOOKS = {
    r"layers\.(\d+)": ("blocks.{}.hook_resid_post", "blocks.{}.hook_resid_post"),
    r"layers\.(\d+)\.mlp": ("blocks.{}.mlp.hook_in", "blocks.{}.mlp.hook_out"),
}
"""Folder name -> (a module's input, its output) in TransformerLens' names.

The input is what the module itself sees, behind the norm's gain: not `ln2.hook_normalized`.
"""

REFUSED = ("embed_skip", "gram_lookup")
"""Settings under which the coder reads more than its hook point."""


def load(
    source: Source, device: torch.device, dtype: torch.dtype, width: Callable[[str], int] | None
) -> Dictionary:
    """The dictionary in a folder, with the hook point of the folder's name or of the user."""
    cfg = read_json(source.path / "cfg.json")
    for setting in REFUSED:
        if cfg.get(setting):
            raise InputError(f"{source.spec} was trained with {setting}: that is not read here.")
    transcodes = bool(cfg.get("transcode"))
    hook_name, hook_out = _hook_points(source, transcodes)
    path = source.path / SPARSIFY_WEIGHTS
    state = read_safetensors(path)
    b_dec = take(state, path, "b_dec", "decoder.bias")
    kept = moved(
        {
            "W_enc": take(state, path, "encoder.weight").T,
            "b_enc": take(state, path, "encoder.bias"),
            "W_dec": take(state, path, "W_dec"),
            "b_dec": b_dec,
            **({"W_skip": take(state, path, "W_skip")} if cfg.get("skip_connection") else {}),
        },
        device,
        dtype,
    )
    W_skip = kept.pop("W_skip", None)
    rule = _rule(cfg, source, kept["W_enc"].shape[1])
    coder = Affine(**kept, rule=rule, b_in=None if transcodes else kept["b_dec"])
    return Dictionary(
        name=source.default_name,
        hook_name=hook_name,
        hook_out=hook_out,
        architecture=_architecture(cfg, transcodes),
        source=source.public,
        weights_hash=weights_hash(state),
        coder=coder,
        W_skip=W_skip,
        metadata={"l0": float(coder.rule.k)} if isinstance(coder.rule, GroupMax | TopK) else {},
    )


def _architecture(cfg: Mapping[str, object], transcodes: bool) -> str:
    kind = "groupmax" if cfg.get("activation") == "groupmax" else "topk"
    kind = "abstopk" if cfg.get("signed") else kind
    skip = "skip_" if cfg.get("skip_connection") else ""
    return f"{kind}_{skip}transcoder" if transcodes else kind


def _rule(cfg: Mapping[str, object], source: Source, d_sae: int) -> GroupMax | TopK:
    k = cfg.get("k")
    if not isinstance(k, int) or not 0 < k <= d_sae:
        raise InputError(f"{source.path / 'cfg.json'} has k = {k!r}: it must be 1 to {d_sae}.")
    activation = cfg.get("activation", "topk")
    if activation == "groupmax":
        if d_sae % k:
            raise InputError(f"{source.spec} has {d_sae} features, which {k} groups do not divide.")
        return GroupMax(k)
    if activation != "topk":
        raise InputError(f"{source.spec} has activation {activation!r}: topk and groupmax work.")
    return TopK(k, by_magnitude=bool(cfg.get("signed")))


def _hook_points(source: Source, transcodes: bool) -> tuple[str, str]:
    hook, hook_out = source.hook, source.hook_out
    for pattern, (reads, writes) in HOOKS.items():
        if match := re.fullmatch(pattern, source.path.resolve().name):
            writes = writes.format(match[1])
            hook = hook or (reads.format(match[1]) if transcodes else writes)
            hook_out = hook_out or writes
    if hook is None or (transcodes and hook_out is None):
        example = "HOOK,HOOK_OUT" if transcodes else "HOOK"
        raise InputError(
            f"{source.path.name} does not name a hook point (layers.3 or layers.3.mlp do): write "
            f"{source.place}@{example}."
        )
    return hook, (hook_out or hook) if transcodes else hook
