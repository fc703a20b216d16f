"""Folders that dictionary_learning saves: ae.pt and config.json.

Formats, read off the library's classes: AutoEncoder (encoder.*, decoder.weight, bias),
AutoEncoderNew (decoder.bias, which is not taken off the input), GatedAutoEncoder (encoder.weight,
decoder.weight, r_mag, gate_bias, mag_bias, decoder_bias), AutoEncoderTopK and BatchTopKSAE (k,
threshold, b_dec), MatryoshkaBatchTopKSAE (W_enc, W_dec, group_sizes), JumpReluAutoEncoder (W_enc,
W_dec, threshold).
nn.Linear weights are [out in]. Gated and JumpReLU activations are multiplied by their decoder
norm, as the library gives them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from backend.dictionaries.affine import Affine, Gates, gated
from backend.dictionaries.base import Dictionary
from backend.dictionaries.foreign_config import pick_kind
from backend.dictionaries.learning_config import TrainerConfig
from backend.dictionaries.rules import Rule, Threshold, TopK
from backend.dictionaries.sources import LEARNING_WEIGHTS, Source, read_json
from backend.dictionaries.tensors import (
    check_coder_shapes,
    explain_misfit,
    moved,
    read_pickle_free,
    take,
    weights_hash,
)
from backend.finite_weights import check_finite
from feature_store.errors import InputError

State = Mapping[str, Tensor]


def read_config(folder: Path) -> TrainerConfig:
    """The trainer's settings in the folder's config.json, checked; empty where there is none."""
    path = folder / "config.json"
    content = read_json(path) if path.exists() else {}
    return TrainerConfig.read_file(content, str(path))


def load(
    source: Source, device: torch.device, dtype: torch.dtype, width: Callable[[str], int] | None
) -> Dictionary:
    """The dictionary in a folder; its hook point from config.json, or from the user's @HOOK."""
    path = source.path / LEARNING_WEIGHTS
    config = read_config(source.path)
    hook, note = _hook_point(source, config)
    raw = read_pickle_free(path)
    check_finite(raw, str(path))
    state = moved(raw, device, dtype)
    kind = config.trained_class or _guess(raw, source)
    where = str(source.path / "config.json")
    read_coder = pick_kind(where, "dictionary_learning class", kind, CLASSES)
    with explain_misfit(f"The weights in {path} do not fit the class {kind}"):
        coder = read_coder(state, path, config)
    check_coder_shapes(path, coder.W_enc, coder.b_enc, coder.W_dec, coder.b_dec)
    _check_sizes(source, config, coder)
    return Dictionary(
        name=source.default_name,
        hook_name=hook,
        hook_out=source.hook_out or hook,
        architecture=kind,
        source=source.public,
        weights_hash=weights_hash(raw),
        coder=coder,
        metadata={"model_name": config.lm_name} if config.lm_name else {},
        notes=() if note is None else (note,),
    )


def _hook_point(source: Source, config: TrainerConfig) -> tuple[str, str | None]:
    """The hook point that it reads, and a note where that was not said outright."""
    if source.hook:
        return source.hook, None
    hook, note = config.find_hook_point(source.path.resolve())
    if hook is None:
        raise InputError(
            f"{source.spec} does not say which hook point it reads (its config.json would have a "
            f"submodule_name such as resid_post_layer_8): write {source.place}@HOOK."
        )
    return hook, note


def _check_sizes(source: Source, config: TrainerConfig, coder: Affine) -> None:
    """InputError where config.json contradicts the weights."""
    where = source.path / "config.json"
    d_in, d_sae = coder.W_enc.shape
    if config.activation_dim not in (None, d_in):
        raise InputError(
            f"{where} has activation_dim = {config.activation_dim}, and the weights read vectors "
            f"of {d_in}."
        )
    if config.dict_size not in (None, d_sae):
        raise InputError(
            f"{where} has dict_size = {config.dict_size}, and the weights have {d_sae} features."
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


def _standard(state: State, path: Path, config: TrainerConfig) -> Affine:
    b_dec = take(state, path, "bias")
    return _linear_layers(state, path, b_dec, b_dec, Threshold())


def _new(state: State, path: Path, config: TrainerConfig) -> Affine:
    return _linear_layers(state, path, take(state, path, "decoder.bias"), None, Threshold())


def _topk(state: State, path: Path, config: TrainerConfig) -> Affine:
    b_dec = take(state, path, "b_dec")
    return _linear_layers(state, path, b_dec, b_dec, TopK(_read_k(state, path, config)))


def _read_k(state: State, path: Path, config: TrainerConfig) -> int:
    """Features kept per token: the file's own number, or config.json's; they must not differ."""
    d_sae = len(take(state, path, "encoder.bias"))
    stored = state.get("k")
    if stored is None and config.k is None:
        raise InputError(
            f"{path} has no k, and {path.with_name('config.json')} names none: how many features "
            "a token keeps is not known."
        )
    k = config.k if stored is None else float(stored.reshape(-1)[0])
    assert k is not None
    if not float(k).is_integer() or not 1 <= k <= d_sae:
        place = path if stored is not None else path.with_name("config.json")
        raise InputError(f"{place} has k = {k:g}: it must be a whole number, 1 to {d_sae}.")
    if config.k not in (None, int(k)):
        raise InputError(
            f"{path} has k = {int(k)} and {path.with_name('config.json')} k = {config.k}: which "
            "one holds is not known."
        )
    return int(k)


def _batch_topk(state: State, path: Path, config: TrainerConfig) -> Affine:
    b_dec = take(state, path, "b_dec")
    rule = Threshold(_batch_threshold(state, path, len(take(state, path, "encoder.bias"))))
    return _linear_layers(state, path, b_dec, b_dec, rule)


def _matryoshka(state: State, path: Path, config: TrainerConfig) -> Affine:
    b_enc, b_dec = take(state, path, "b_enc"), take(state, path, "b_dec")
    W_enc, W_dec = take(state, path, "W_enc"), take(state, path, "W_dec")
    return Affine(
        W_enc, b_enc, W_dec, b_dec, Threshold(_batch_threshold(state, path, len(b_enc))), b_in=b_dec
    )


def _batch_threshold(state: State, path: Path, d_sae: int) -> Tensor:
    """The one threshold of a BatchTopK dictionary, for every feature."""
    if "threshold" not in state:
        raise InputError(
            f"{path} has no threshold: a BatchTopK dictionary without its threshold can't be read "
            "outside training."
        )
    threshold = state["threshold"].reshape(-1)
    if len(threshold) != 1:
        raise InputError(f"{path} has {len(threshold)} thresholds, where BatchTopK has one.")
    if not threshold >= 0:  # what the library starts with
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


def _gated(state: State, path: Path, config: TrainerConfig) -> Affine:
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


def _jumprelu(state: State, path: Path, config: TrainerConfig) -> Affine:
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


CLASSES: dict[str, Callable[[State, Path, TrainerConfig], Affine]] = {
    "AutoEncoder": _standard,
    "AutoEncoderNew": _new,
    "GatedAutoEncoder": _gated,
    "AutoEncoderTopK": _topk,
    "BatchTopKSAE": _batch_topk,
    "MatryoshkaBatchTopKSAE": _matryoshka,
    "JumpReluAutoEncoder": _jumprelu,
}
"""config.json's dict_class -> how its tensors become one affine map and a rule."""
