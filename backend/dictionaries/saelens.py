"""Dictionaries in sae-lens' format, from a folder or by RELEASE/ID.

Scales that are the same for every token (input scale, whitening, decoder norms) are folded into the
weights once, so that W_dec is in the hook's own units per unit of activation. Then every
architecture but two is an affine map and a rule.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backend.dictionaries.affine import Affine, Gates, gated
from backend.dictionaries.base import Coder, Dictionary
from backend.dictionaries.norms import NORMS, Norm, input_only, scaled
from backend.dictionaries.opaque import Opaque, Temporal
from backend.dictionaries.registry import published, split_release
from backend.dictionaries.rules import Threshold, TopK
from backend.dictionaries.sources import Source, read_json
from backend.dictionaries.tensors import read_safetensors, weights_hash
from feature_store.errors import InputError, pick

Sae = Any
"""sae-lens' SAE: imported only to load; its parameters differ by architecture."""

SCALER = "activation_scaler.json"
WHITENING = "activation_whitening.safetensors"
"""sae-lens' training leaves these beside a checkpoint whose scale is not folded in yet."""


def load(
    source: Source, device: torch.device, dtype: torch.dtype, width: Callable[[str], int] | None
) -> Dictionary:
    """The dictionary in a folder or on the hub, folded and moved to the device."""
    with warnings.catch_warnings():
        # It asks for model_from_pretrained_kwargs to be honoured; they are, everywhere.
        warnings.filterwarnings(
            "ignore", message=r"\s*This SAE has non-empty model_from_pretrained_kwargs"
        )
        sae, extra = _from_hub(source.place) if source.kind == "hub" else (_from_disk(source), {})
    return adapt(sae, source, device, dtype, extra)


def adapt(
    sae: Sae,
    source: Source,
    device: torch.device,
    dtype: torch.dtype,
    extra: dict[str, object] | None = None,
) -> Dictionary:
    """A loaded sae-lens object as a dictionary. The object is used up: its weights are folded."""
    metadata = {k: v for k, v in sae.cfg.metadata.to_dict().items() if v is not None}
    metadata = {**(extra or {}), **metadata}
    architecture = sae.cfg.architecture()
    hook_name, hook_out = hook_points(source, metadata, architecture)
    digest = weights_hash(sae.state_dict())
    sae = sae.to(device=device, dtype=dtype).requires_grad_(False)
    fold(sae, source)
    transcodes = architecture.endswith("transcoder")
    norm = _norm(sae)
    skip = getattr(sae, "W_skip", None)
    return Dictionary(
        name=source.default_name,
        hook_name=hook_name,
        hook_out=hook_out,
        architecture=architecture,
        source=source.public,
        weights_hash=digest,
        coder=CODERS.get(architecture, _unknown)(sae),
        norm=input_only(norm) if transcodes else norm,
        W_skip=None if skip is None else skip.detach(),
        metadata=metadata,
    )


def _from_disk(source: Source) -> Sae:
    from sae_lens import SAE
    from sae_lens.registry import SAE_CLASS_REGISTRY

    cfg = read_json(source.path / "cfg.json")
    pick("sae-lens architecture", str(cfg.get("architecture", "standard")), SAE_CLASS_REGISTRY)
    try:
        return SAE.load_from_disk(source.path, device="cpu", dtype="float32")
    except (RuntimeError, ValueError, TypeError, KeyError) as bad:
        raise InputError(
            f"The weights in {source.path} do not fit its cfg.json ({_first_line(bad)})."
        ) from bad


def _from_hub(place: str) -> tuple[Sae, dict[str, object]]:
    from sae_lens import SAE

    release, sae_id = split_release(place)
    try:
        sae = SAE.from_pretrained(release, sae_id, device="cpu", dtype="float32")
    except OSError as bad:  # the hub's errors: not there, no permission, no network
        raise InputError(
            f"{place} cannot be fetched from the Hugging Face hub ({_first_line(bad)})."
        ) from bad
    return sae, published(release, sae_id)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def hook_points(source: Source, metadata: dict[str, Any], architecture: str) -> tuple[str, str]:
    """(reads, writes): what the user gave after @, else what the metadata says."""
    hook = source.hook or metadata.get("hook_name")
    if not hook:
        raise InputError(
            f"{source.spec} does not say which hook point it reads: write {source.spec}@HOOK."
        )
    if metadata.get("hook_head_index") is not None:
        raise InputError(
            f"{source.spec} reads one attention head only; dictionaries of all heads "
            "(reshape_activations=hook_z) work."
        )
    if not architecture.endswith("transcoder"):
        return hook, hook
    hook_out = source.hook_out or metadata.get("hook_name_out")
    if not hook_out:
        raise InputError(
            f"{source.spec} is a transcoder and does not say which hook point it writes: "
            f"write {source.place}@{hook},HOOK_OUT."
        )
    return hook, hook_out


@torch.no_grad()
def fold(sae: Sae, source: Source) -> None:
    """Fold what is the same for every token into the weights, in place."""
    kind = sae.cfg.normalize_activations
    if kind == "expected_average_only_in":
        sae.fold_activation_norm_scaling_factor(_scaling_factor(source))
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        _fold_decoder_norm(sae)
    if kind == "covariance_whitening":
        if sae.cfg.architecture() == "matching_pursuit":
            raise InputError(f"{source.spec} whitens the input of a tied encoder: not defined.")
        sae.fold_activation_whitening(*_whitening(source))


def _fold_decoder_norm(sae: Sae) -> None:
    norms = sae.W_dec.norm(dim=-1)
    sae.W_enc.data *= norms
    sae.b_enc.data *= norms
    sae.W_dec.data /= torch.where(norms > 0, norms, 1.0)[:, None]  # a zero row never fires
    sae.cfg.rescale_acts_by_decoder_norm = False


def _scaling_factor(source: Source) -> float:
    path = source.path / SCALER
    factor = read_json(path).get("scaling_factor") if path.is_file() else None
    if not isinstance(factor, int | float) or factor <= 0:
        raise InputError(
            f"{source.spec} was trained on scaled activations (expected_average_only_in) and the "
            f"factor is not there: put sae-lens' {SCALER} beside it, or fold the factor in with "
            "SAE.fold_activation_norm_scaling_factor and save it again."
        )
    return float(factor)


def _whitening(source: Source) -> tuple[Tensor, Tensor, Tensor]:
    """(mean [d_in], matrix [d_in d_in], its inverse)"""
    path: Path = source.path / WHITENING
    if not path.is_file():
        raise InputError(
            f"{source.spec} was trained on whitened activations (covariance_whitening) and the "
            f"matrices are not there: put sae-lens' {WHITENING} beside it, or fold them in with "
            "SAE.fold_activation_whitening and save it again."
        )
    tensors = read_safetensors(path)
    return tensors["mean"], tensors["matrix"], tensors["inverse_matrix"]


def _norm(sae: Sae) -> Norm:
    kind = sae.cfg.normalize_activations
    if kind == "constant_scalar_rescale":
        return scaled(float(sae.cfg.activation_normalization_factor))
    return pick("normalisation of activations", kind, NORMS)


def _affine(sae: Sae, rule: Threshold | TopK) -> Affine:
    transcodes = sae.cfg.architecture().endswith("transcoder")
    return Affine(
        W_enc=sae.W_enc.detach(),
        b_enc=sae.b_enc.detach(),
        W_dec=sae.W_dec.detach(),
        b_dec=sae.b_dec.detach(),
        rule=rule,
        b_in=None if transcodes or not sae.cfg.apply_b_dec_to_input else sae.b_dec.detach(),
    )


def _relu(sae: Sae) -> Affine:
    return _affine(sae, Threshold())


def _jumprelu(sae: Sae) -> Affine:
    return _affine(sae, Threshold(sae.threshold.detach().clamp(min=0)))


def _topk(sae: Sae) -> Affine:
    return _affine(sae, TopK(sae.cfg.k))


def _abstopk(sae: Sae) -> Affine:
    return _affine(sae, TopK(sae.cfg.k, by_magnitude=True))


def _gated(sae: Sae) -> Affine:
    biases = Gates(sae.r_mag.detach(), sae.b_gate.detach(), sae.b_mag.detach())
    b_dec = sae.b_dec.detach()
    subtract = sae.cfg.apply_b_dec_to_input
    return gated(sae.W_enc.detach(), biases, sae.W_dec.detach(), b_dec, b_dec if subtract else None)


def _unknown(sae: Sae) -> Opaque:
    """An architecture registered with sae-lens by somebody else: it may well be signed."""
    return Opaque(sae, signed=True)


CODERS: dict[str, Callable[[Sae], Coder]] = {
    "standard": _relu,
    "transcoder": _relu,
    "skip_transcoder": _relu,
    "jumprelu": _jumprelu,
    "jumprelu_transcoder": _jumprelu,
    "jumprelu_skip_transcoder": _jumprelu,
    "topk": _topk,
    "abstopk": _abstopk,
    "gated": _gated,
    "matching_pursuit": lambda sae: Opaque(sae, signed=False),
    "temporal": Temporal,
}
"""BatchTopK and Matryoshka SAEs are saved by sae-lens as jumprelu."""
