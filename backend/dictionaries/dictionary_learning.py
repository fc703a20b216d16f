"""Folders that dictionary_learning saves: ae.pt and config.json.

Formats, read off the library's classes: AutoEncoder (encoder.*, decoder.weight, bias),
AutoEncoderNew (decoder.bias, which is not taken off the input), GatedAutoEncoder (encoder.weight,
decoder.weight, r_mag, gate_bias, mag_bias, decoder_bias), AutoEncoderTopK and BatchTopKSAE (k,
threshold, b_dec), MatryoshkaBatchTopKSAE (W_enc, W_dec, group_sizes), JumpReluAutoEncoder (W_enc,
W_dec, threshold).
nn.Linear weights are [out in]. Gated and JumpReLU activations are multiplied by their decoder
norm, as the library gives them.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backend.dictionaries.affine import Affine, Gates, gated
from backend.dictionaries.base import Dictionary
from backend.dictionaries.rules import Rule, Threshold, TopK
from backend.dictionaries.sources import LEARNING_WEIGHTS, Source, read_json
from backend.dictionaries.tensors import moved, read_pickle_free, take, weights_hash
from feature_store.errors import InputError, pick

State = Mapping[str, Tensor]

SUBMODULE = re.compile(r"(resid_pre|resid_mid|resid_post|attn_out|mlp_out)_layer_(\d+)")
"""How the library's own training scripts name a submodule; other names are the trainer's own."""


def load(
    source: Source, device: torch.device, dtype: torch.dtype, width: Callable[[str], int] | None
) -> Dictionary:
    """The dictionary in a folder; its hook point from config.json, or from the user's @HOOK."""
    path = source.path / LEARNING_WEIGHTS
    config = source.path / "config.json"
    trainer = _trainer(read_json(config)) if config.exists() else {}
    hook = _hook_point(source, trainer)
    raw = read_pickle_free(path)
    state = moved(raw, device, dtype)
    kind = str(trainer.get("dict_class") or _guess(raw, source))
    coder = pick("dictionary_learning class", kind, CLASSES)(state, path)
    return Dictionary(
        name=source.default_name,
        hook_name=hook,
        hook_out=source.hook_out or hook,
        architecture=kind,
        source=source.public,
        weights_hash=weights_hash(raw),
        coder=coder,
        metadata={"model_name": trainer["lm_name"]} if trainer.get("lm_name") else {},
    )


def _trainer(config: Mapping[str, Any]) -> Mapping[str, Any]:
    trainer = config.get("trainer", config)
    return trainer if isinstance(trainer, Mapping) else {}


def _hook_point(source: Source, trainer: Mapping[str, Any]) -> str:
    if source.hook:
        return source.hook
    if match := SUBMODULE.fullmatch(str(trainer.get("submodule_name"))):
        return f"blocks.{match[2]}.hook_{match[1]}"
    raise InputError(
        f"{source.spec} does not say which hook point it reads (its config.json would have a "
        f"submodule_name such as resid_post_layer_8): write {source.place}@HOOK."
    )


def _guess(state: State, source: Source) -> str:
    """The class, from the names of tensors; only where no config.json tells it."""
    if "group_sizes" in state:
        return "MatryoshkaBatchTopKSAE"
    if "r_mag" in state:
        return "GatedAutoEncoder"
    if "W_enc" in state and "threshold" in state:
        return "JumpReluAutoEncoder"
    if "bias" in state:
        return "AutoEncoder"
    if "decoder.bias" in state:
        return "AutoEncoderNew"
    raise InputError(
        f"{source.spec} has no config.json, and its tensors fit more than one class: put the "
        "config.json that was saved with it beside ae.pt."
    )


def _standard(state: State, path: Path) -> Affine:
    b_dec = take(state, path, "bias")
    return _linear_layers(state, path, b_dec, b_dec, Threshold())


def _new(state: State, path: Path) -> Affine:
    return _linear_layers(state, path, take(state, path, "decoder.bias"), None, Threshold())


def _topk(state: State, path: Path) -> Affine:
    b_dec = take(state, path, "b_dec")
    return _linear_layers(state, path, b_dec, b_dec, TopK(int(take(state, path, "k"))))


def _batch_topk(state: State, path: Path) -> Affine:
    b_dec = take(state, path, "b_dec")
    rule = Threshold(_threshold(state, path, len(take(state, path, "encoder.bias"))))
    return _linear_layers(state, path, b_dec, b_dec, rule)


def _matryoshka(state: State, path: Path) -> Affine:
    b_enc, b_dec = take(state, path, "b_enc"), take(state, path, "b_dec")
    W_enc, W_dec = take(state, path, "W_enc"), take(state, path, "W_dec")
    return Affine(
        W_enc, b_enc, W_dec, b_dec, Threshold(_threshold(state, path, len(b_enc))), b_in=b_dec
    )


def _threshold(state: State, path: Path, d_sae: int) -> Tensor:
    """The one threshold of a BatchTopK dictionary, for every feature."""
    threshold = take(state, path, "threshold")
    if threshold < 0:  # what the library starts with
        raise InputError(
            f"{path} has a threshold of {float(threshold):g}: training ended before one was "
            "estimated, so its activations on single tokens are not defined."
        )
    return threshold.expand(d_sae).contiguous()


def _linear_layers(
    state: State, path: Path, b_dec: Tensor, b_in: Tensor | None, rule: Rule
) -> Affine:
    return Affine(
        W_enc=take(state, path, "encoder.weight").T.contiguous(),
        b_enc=take(state, path, "encoder.bias"),
        W_dec=take(state, path, "decoder.weight").T.contiguous(),
        b_dec=b_dec,
        rule=rule,
        b_in=b_in,
    )


def _gated(state: State, path: Path) -> Affine:
    W_dec = take(state, path, "decoder.weight").T.contiguous()
    norms = W_dec.norm(dim=1)
    gates = Gates(
        take(state, path, "r_mag"),
        take(state, path, "gate_bias") * norms,
        take(state, path, "mag_bias") * norms,
    )
    W_enc = take(state, path, "encoder.weight").T * norms
    b_dec = take(state, path, "decoder_bias")
    return gated(W_enc, gates, _unit(W_dec, norms), b_dec, b_dec)


def _jumprelu(state: State, path: Path) -> Affine:
    W_dec = take(state, path, "W_dec")
    norms = W_dec.norm(dim=1)
    return Affine(
        W_enc=take(state, path, "W_enc") * norms,
        b_enc=take(state, path, "b_enc") * norms,
        W_dec=_unit(W_dec, norms),
        b_dec=take(state, path, "b_dec"),
        rule=Threshold(take(state, path, "threshold").clamp(min=0) * norms),
    )


def _unit(W_dec: Tensor, norms: Tensor) -> Tensor:
    return W_dec / torch.where(norms > 0, norms, 1.0)[:, None]  # a zero row never fires


CLASSES: dict[str, Callable[[State, Path], Affine]] = {
    "AutoEncoder": _standard,
    "AutoEncoderNew": _new,
    "GatedAutoEncoder": _gated,
    "AutoEncoderTopK": _topk,
    "BatchTopKSAE": _batch_topk,
    "MatryoshkaBatchTopKSAE": _matryoshka,
    "JumpReluAutoEncoder": _jumprelu,
}
"""config.json's dict_class -> how its tensors become one affine map and a rule."""
