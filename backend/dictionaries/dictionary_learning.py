"""Loader of dictionary_learning checkpoints: a folder with ae.pt and config.json.

Tensor names by class: AutoEncoder (encoder.*, decoder.weight, bias), AutoEncoderNew (decoder.bias,
which is not subtracted from the input), GatedAutoEncoder (encoder.weight, decoder.weight, r_mag,
gate_bias, mag_bias, decoder_bias), AutoEncoderTopK and BatchTopKSAE (k, threshold, b_dec),
MatryoshkaBatchTopKSAE (W_enc, W_dec, group_sizes), JumpReluAutoEncoder (W_enc, W_dec, threshold).
nn.Linear weights are [out in]. Gated and JumpReLU activations are multiplied by their decoder
norms, as the library returns them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from backend.dictionaries.activation_rules import ActivationRule, ThresholdRule, TopKRule
from backend.dictionaries.affine_coder import AffineCoder, GateParameters, build_gated_coder
from backend.dictionaries.base import Dictionary, single_sites
from backend.dictionaries.dictionary_learning_config import TrainerConfig
from backend.dictionaries.dictionary_sources import LEARNING_WEIGHTS, DictionarySource, read_json
from backend.dictionaries.foreign_config import pick_kind
from backend.dictionaries.weight_files import (
    check_coder_shapes,
    explain_misfit,
    move_tensors,
    read_pickle_free,
    take_tensor,
    weights_hash,
)
from backend.model.finite_weights import check_dictionary_finite
from feature_store.errors import InputError

State = Mapping[str, Tensor]


def read_trainer_config(folder: Path) -> TrainerConfig:
    """Return the validated trainer settings of a dictionary_learning folder's config.json; empty
    settings where the file is absent."""
    path = folder / "config.json"
    content = read_json(path) if path.exists() else {}
    return TrainerConfig.read_file(content, str(path))


def load(
    source: DictionarySource,
    device: torch.device,
    dtype: torch.dtype,
    width: Callable[[str], int] | None,
) -> Dictionary:
    """Return the dictionary_learning checkpoint in a folder as a Dictionary. The hook point comes
    from the user's @HOOK, or else from config.json."""
    path = source.path / LEARNING_WEIGHTS
    config = read_trainer_config(source.path)
    hook, note = _find_hook_point(source, config)
    raw = read_pickle_free(path)
    check_dictionary_finite(raw, str(path))
    state = move_tensors(raw, device, dtype)
    kind = config.trained_class or _guess_class(raw, source)
    where = str(source.path / "config.json")
    read_coder = pick_kind(where, "dictionary_learning class", kind, CLASSES)
    with explain_misfit(f"The weights in {path} do not fit the class {kind}"):
        coder = read_coder(state, path, config)
    check_coder_shapes(path, coder.W_enc, coder.b_enc, coder.W_dec, coder.b_dec)
    _check_sizes(source, config, coder)
    reads, writes = single_sites(hook, source.hook_out or hook, coder)
    return Dictionary(
        name=source.default_name,
        reads=reads,
        writes=writes,
        architecture=kind,
        source=source.public,
        weights_hash=weights_hash(raw),
        coder=coder,
        metadata={"model_name": config.lm_name} if config.lm_name else {},
        notes=() if note is None else (note,),
    )


def _find_hook_point(source: DictionarySource, config: TrainerConfig) -> tuple[str, str | None]:
    """Return the hook point of a dictionary_learning checkpoint, and a note where it
    was inferred."""
    if source.hook:
        return source.hook, None
    hook, note = config.find_hook_point(source.path.resolve())
    if hook is None:
        raise InputError(
            f"{source.spec} does not say which hook point it reads (its config.json would have a "
            f"submodule_name such as resid_post_layer_8): write {source.place}@HOOK."
        )
    return hook, note


def _check_sizes(source: DictionarySource, config: TrainerConfig, coder: AffineCoder) -> None:
    """Raise InputError where the sizes in config.json contradict the weights of a
    dictionary_learning checkpoint."""
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


def _guess_class(state: State, source: DictionarySource) -> str:
    """Infer the dictionary_learning class from the tensors' names, for a checkpoint without a
    config.json."""
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
        "config.json that was saved with it into the same folder as ae.pt."
    )


def _read_standard(state: State, path: Path, config: TrainerConfig) -> AffineCoder:
    """Read the tensors of dictionary_learning's AutoEncoder (ReLU)."""
    b_dec = take_tensor(state, path, "bias")
    return _read_linear_layers(state, path, b_dec, b_dec, ThresholdRule())


def _read_new(state: State, path: Path, config: TrainerConfig) -> AffineCoder:
    """Read the tensors of dictionary_learning's AutoEncoderNew (ReLU, no input bias)."""
    return _read_linear_layers(
        state, path, take_tensor(state, path, "decoder.bias"), None, ThresholdRule()
    )


def _read_topk(state: State, path: Path, config: TrainerConfig) -> AffineCoder:
    """Read the tensors of dictionary_learning's AutoEncoderTopK."""
    b_dec = take_tensor(state, path, "b_dec")
    return _read_linear_layers(state, path, b_dec, b_dec, TopKRule(_read_k(state, path, config)))


def _read_k(state: State, path: Path, config: TrainerConfig) -> int:
    """Return the number k of active features per token, from the weights or config.json; InputError
    where the two differ."""
    d_sae = len(take_tensor(state, path, "encoder.bias"))
    stored = state.get("k")
    if stored is None and config.k is None:
        raise InputError(
            f"{path} has no k, and {path.with_name('config.json')} gives none: the number "
            "of active features per token is unknown."
        )
    k = config.k if stored is None else float(stored.reshape(-1)[0])
    assert k is not None
    if not float(k).is_integer() or not 1 <= k <= d_sae:
        place = path if stored is not None else path.with_name("config.json")
        raise InputError(f"{place} has k = {k:g}: it must be a whole number, 1 to {d_sae}.")
    if config.k not in (None, int(k)):
        raise InputError(
            f"{path} has k = {int(k)} and {path.with_name('config.json')} k = {config.k}: which "
            "one is right is unknown."
        )
    return int(k)


def _read_batch_topk(state: State, path: Path, config: TrainerConfig) -> AffineCoder:
    """Read the tensors of dictionary_learning's BatchTopKSAE as a JumpReLU coder with its one
    threshold."""
    b_dec = take_tensor(state, path, "b_dec")
    rule = ThresholdRule(
        _read_batch_threshold(state, path, len(take_tensor(state, path, "encoder.bias")))
    )
    return _read_linear_layers(state, path, b_dec, b_dec, rule)


def _read_matryoshka(state: State, path: Path, config: TrainerConfig) -> AffineCoder:
    """Read the tensors of dictionary_learning's MatryoshkaBatchTopKSAE as a JumpReLU coder with its
    one threshold."""
    b_enc, b_dec = take_tensor(state, path, "b_enc"), take_tensor(state, path, "b_dec")
    W_enc, W_dec = take_tensor(state, path, "W_enc"), take_tensor(state, path, "W_dec")
    return AffineCoder(
        W_enc,
        b_enc,
        W_dec,
        b_dec,
        ThresholdRule(_read_batch_threshold(state, path, len(b_enc))),
        b_in=b_dec,
    )


def _read_batch_threshold(state: State, path: Path, d_sae: int) -> Tensor:
    """Return the threshold of a BatchTopK dictionary, repeated for every feature; InputError where
    training has not estimated one."""
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


def _read_linear_layers(
    state: State, path: Path, b_dec: Tensor, b_in: Tensor | None, rule: ActivationRule
) -> AffineCoder:
    """Return the affine coder of a checkpoint that keeps its encoder and decoder as nn.Linear
    layers."""
    return AffineCoder(
        W_enc=take_tensor(state, path, "encoder.weight").T.contiguous(),
        b_enc=take_tensor(state, path, "encoder.bias"),
        W_dec=take_tensor(state, path, "decoder.weight").T.contiguous(),
        b_dec=b_dec,
        rule=rule,
        b_in=b_in,
    )


def _read_gated(state: State, path: Path, config: TrainerConfig) -> AffineCoder:
    """Read the tensors of dictionary_learning's GatedAutoEncoder, with activations multiplied by
    decoder norms."""
    W_dec = take_tensor(state, path, "decoder.weight").T.contiguous()
    norms = W_dec.norm(dim=1)
    gates = GateParameters(
        take_tensor(state, path, "r_mag"),
        take_tensor(state, path, "gate_bias") * norms,
        take_tensor(state, path, "mag_bias") * norms,
    )
    W_enc = take_tensor(state, path, "encoder.weight").T * norms
    b_dec = take_tensor(state, path, "decoder_bias")
    return build_gated_coder(W_enc, gates, _unit_rows(W_dec, norms), b_dec, b_dec)


def _read_jumprelu(state: State, path: Path, config: TrainerConfig) -> AffineCoder:
    """Read the tensors of dictionary_learning's JumpReluAutoEncoder, with activations multiplied by
    decoder norms."""
    W_dec = take_tensor(state, path, "W_dec")
    norms = W_dec.norm(dim=1)
    return AffineCoder(
        W_enc=take_tensor(state, path, "W_enc") * norms,
        b_enc=take_tensor(state, path, "b_enc") * norms,
        W_dec=_unit_rows(W_dec, norms),
        b_dec=take_tensor(state, path, "b_dec"),
        rule=ThresholdRule(take_tensor(state, path, "threshold").clamp(min=0) * norms),
    )


def _unit_rows(W_dec: Tensor, norms: Tensor) -> Tensor:
    """Divide each decoder row by its norm; a row of zeros stays zero."""
    return W_dec / torch.where(norms > 0, norms, 1.0)[:, None]  # a zero row never fires


CLASSES: dict[str, Callable[[State, Path, TrainerConfig], AffineCoder]] = {
    "AutoEncoder": _read_standard,
    "AutoEncoderNew": _read_new,
    "GatedAutoEncoder": _read_gated,
    "AutoEncoderTopK": _read_topk,
    "BatchTopKSAE": _read_batch_topk,
    "MatryoshkaBatchTopKSAE": _read_matryoshka,
    "JumpReluAutoEncoder": _read_jumprelu,
}
"""Reader of each dictionary_learning class (the dict_class of config.json), which returns its
affine coder."""
