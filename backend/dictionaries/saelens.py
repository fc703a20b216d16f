"""Loader of sae-lens dictionaries, from a folder or by RELEASE/ID.

Scales that are the same for every token (input scale, whitening, decoder norms) are folded into the
weights once, so that W_dec is in the hook point's own units per unit of activation. All
architectures but two then become an affine map with an activation rule.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backend.dictionaries.activation_rules import ThresholdRule, TopKRule
from backend.dictionaries.affine_coder import AffineCoder, GateParameters, build_gated_coder
from backend.dictionaries.base import Coder, Dictionary, single_sites
from backend.dictionaries.dictionary_sources import SAELENS_WEIGHTS, DictionarySource, read_json
from backend.dictionaries.input_normalisation import (
    NORMALISATIONS,
    InputNormalisation,
    normalise_input_only,
    scale_by_constant,
)
from backend.dictionaries.saelens_checkpoint import SaeLensCheckpoint
from backend.dictionaries.saelens_coders import SaeLensCoder, TemporalCoder
from backend.dictionaries.saelens_config import is_saelens_transcoder
from backend.dictionaries.saelens_registry import published_figures, split_release
from backend.dictionaries.unsupported_formats import refuse_summed_decoders
from backend.dictionaries.weight_files import (
    explain_misfit,
    last_error_line,
    read_safetensors,
    take_tensor,
    weights_hash,
)
from backend.model.finite_weights import check_dictionary_finite
from feature_store.errors import InputError, pick_by_name

Sae = Any
"""SAE class of sae-lens, imported only to load a checkpoint; its parameters differ by
architecture."""

SCALER_FILE = "activation_scaler.json"
WHITENING_FILE = "activation_whitening.safetensors"
"""Name of the file that sae-lens' training writes next to a checkpoint whose whitening is not
folded in yet."""
LARGEST_SCALE = 1e30
"""Upper limit of an activation scale that can be folded into float32 weights."""


def load(
    source: DictionarySource,
    device: torch.device,
    dtype: torch.dtype,
    width: Callable[[str], int] | None,
) -> Dictionary:
    """Return the sae-lens dictionary in a folder or on the Hugging Face hub, with scales folded in,
    on the device."""
    with warnings.catch_warnings():
        # It asks for model_from_pretrained_kwargs to be honoured; they are, everywhere.
        warnings.filterwarnings(
            "ignore", message=r"\s*This SAE has non-empty model_from_pretrained_kwargs"
        )
        if source.kind != "hub":
            sae, checkpoint = _load_from_disk(source)
            return adapt_saelens(sae, source, device, dtype, checkpoint=checkpoint)
        sae, checkpoint, figures = _load_from_hub(source)
    return adapt_saelens(sae, source, device, dtype, figures, checkpoint)


def adapt_saelens(
    sae: Sae,
    source: DictionarySource,
    device: torch.device,
    dtype: torch.dtype,
    extra: dict[str, object] | None = None,
    checkpoint: SaeLensCheckpoint | None = None,
) -> Dictionary:
    """Return a loaded sae-lens object as a Dictionary. The object's weights are changed in place,
    so it must not be used again."""
    metadata = {k: v for k, v in sae.cfg.metadata.to_dict().items() if v is not None}
    metadata = {**(extra or {}), **metadata}
    refuse_summed_decoders(source.spec, metadata)
    architecture = sae.cfg.architecture()
    hook_name, hook_out = find_hook_points(source, metadata, architecture)
    scale = None if checkpoint is None else checkpoint.decoder_scale
    state = sae.state_dict()
    digest = weights_hash(state if scale is None else {**state, "scaling_factor": scale})
    sae = sae.to(device=device, dtype=dtype).requires_grad_(False)
    fold_scales(sae, source, checkpoint)
    if scale is not None:
        sae.W_dec.data *= scale.to(sae.W_dec)[:, None]
    transcodes = is_saelens_transcoder(architecture)
    norm = _find_normalisation(sae)
    skip = getattr(sae, "W_skip", None)
    coder = CODERS.get(architecture, _wrap_unknown)(sae)
    reads, writes = single_sites(hook_name, hook_out, coder)
    return Dictionary(
        name=source.default_name,
        reads=reads,
        writes=writes,
        architecture=architecture,
        source=source.public,
        weights_hash=digest,
        coder=coder,
        norm=normalise_input_only(norm) if transcodes else norm,
        W_skip=None if skip is None else skip.detach(),
        metadata=metadata,
        notes=() if checkpoint is None else tuple(checkpoint.notes),
    )


def _load_from_disk(source: DictionarySource) -> tuple[Sae, SaeLensCheckpoint]:
    """Load a sae-lens object from a folder, after its config and tensors were checked."""
    from sae_lens import SAE

    checkpoint = SaeLensCheckpoint(
        read_json(source.path / "cfg.json"),
        read_safetensors(source.path / SAELENS_WEIGHTS),
        config_at=str(source.path / "cfg.json"),
        weights_at=str(source.path / SAELENS_WEIGHTS),
    )
    with explain_misfit(f"The weights in {source.path} do not fit its cfg.json"):
        return SAE.load_from_disk(source.path, converter=checkpoint.convert), checkpoint


def _load_from_hub(source: DictionarySource) -> tuple[Sae, SaeLensCheckpoint, dict[str, object]]:
    """Load a sae-lens object by RELEASE/ID from the Hugging Face hub, with its
    published figures."""
    from sae_lens import SAE
    from sae_lens.loading.pretrained_sae_loaders import (
        NAMED_PRETRAINED_SAE_LOADERS,
        get_conversion_loader_name,
    )

    place = source.place
    release, sae_id = split_release(place)
    fetch = NAMED_PRETRAINED_SAE_LOADERS[get_conversion_loader_name(release)]
    checkpoints: list[SaeLensCheckpoint] = []

    def fetch_and_check(
        repo_id: str,
        folder_name: str,
        device: str,
        force_download: bool,
        cfg_overrides: dict[str, Any] | None,
    ) -> tuple[dict[str, Any], dict[str, Tensor], Tensor | None]:
        config, state, sparsity = fetch(repo_id, folder_name, device, force_download, cfg_overrides)
        checkpoints.append(
            SaeLensCheckpoint(config, state, f"The config of {place}", f"The file of {place}")
        )
        return *checkpoints[-1].config_and_tensors(), sparsity

    with explain_misfit(f"The weights of {place} do not fit its config"):
        try:
            sae = SAE.from_pretrained(
                release, sae_id, device="cpu", dtype="float32", converter=fetch_and_check
            )
        except OSError as bad:  # the hub's errors: not there, no permission, no network
            raise InputError(
                f"{place} cannot be fetched from the Hugging Face hub ({last_error_line(bad)})."
            ) from bad
    return sae, checkpoints[-1], published_figures(release, sae_id)


def find_hook_points(
    source: DictionarySource, metadata: dict[str, Any], architecture: str
) -> tuple[str, str]:
    """Return the hook points (read, written) of a sae-lens dictionary: those that the user gave
    after @, or else those of the metadata."""
    transcodes = is_saelens_transcoder(architecture)
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
    if not transcodes:
        return hook, hook
    hook_out = source.hook_out or metadata.get("hook_name_out")
    if not hook_out:
        raise InputError(
            f"{source.spec} is a transcoder and does not say which hook point it writes: "
            f"write {source.place}@{hook},HOOK_OUT."
        )
    return hook, hook_out


@torch.no_grad()
def fold_scales(
    sae: Sae, source: DictionarySource, checkpoint: SaeLensCheckpoint | None = None
) -> None:
    """Fold the scales that are the same for every token into the weights of a sae-lens object, in
    place.

    The threshold of a BatchTopK checkpoint applies to activations times their decoder norms where
    they are rescaled; sae-lens then divides it by the input scale, too.
    """
    kind = sae.cfg.normalize_activations
    batch_topk = checkpoint is not None and checkpoint.config.is_batch_topk
    if checkpoint is not None and batch_topk:
        rescales = bool(checkpoint.config.rescale_acts_by_decoder_norm)
    else:
        rescales = getattr(sae.cfg, "rescale_acts_by_decoder_norm", False)
    if kind == "expected_average_only_in":
        factor = _read_scaling_factor(source)
        sae.fold_activation_norm_scaling_factor(factor)
        if batch_topk and rescales:
            sae.threshold.data /= factor
    if rescales:
        _fold_decoder_norm(sae)
    if kind == "covariance_whitening":
        if sae.cfg.architecture() == "matching_pursuit":
            raise InputError(
                f"{source.spec} whitens the input of a tied encoder, which is not defined."
            )
        sae.fold_activation_whitening(*_read_whitening(source))


def _fold_decoder_norm(sae: Sae) -> None:
    """Multiply encoder weights by the decoder norms and divide the decoder rows by
    them, in place."""
    norms = sae.W_dec.norm(dim=-1)
    sae.W_enc.data *= norms
    sae.b_enc.data *= norms
    sae.W_dec.data /= torch.where(norms > 0, norms, 1.0)[:, None]  # a zero row never fires
    sae.cfg.rescale_acts_by_decoder_norm = False


def _read_scaling_factor(source: DictionarySource) -> float:
    """Return the input scale that sae-lens' training stored next to a checkpoint; InputError where
    the file is absent."""
    path = source.path / SCALER_FILE
    factor = read_json(path).get("scaling_factor") if path.is_file() else None
    number = factor if isinstance(factor, int | float) and not isinstance(factor, bool) else 0.0
    if not 0 < number < LARGEST_SCALE:
        raise InputError(
            f"{source.spec} was trained on scaled activations (expected_average_only_in) and the "
            f"factor is missing: put sae-lens' {SCALER_FILE} into the same folder, or fold the "
            "factor in with SAE.fold_activation_norm_scaling_factor and save the SAE again."
        )
    return float(number)


def _read_whitening(source: DictionarySource) -> tuple[Tensor, Tensor, Tensor]:
    """Return the whitening of a sae-lens checkpoint: (mean [d_in], matrix [d_in d_in], its
    inverse)."""
    path: Path = source.path / WHITENING_FILE
    if not path.is_file():
        raise InputError(
            f"{source.spec} was trained on whitened activations (covariance_whitening) and the "
            f"matrices are missing: put sae-lens' {WHITENING_FILE} into the same folder, or fold "
            "them in with SAE.fold_activation_whitening and save the SAE again."
        )
    tensors = read_safetensors(path)
    check_dictionary_finite(tensors, str(path))
    mean, matrix, inverse = (
        take_tensor(tensors, path, n) for n in ("mean", "matrix", "inverse_matrix")
    )
    return mean, matrix, inverse


def _find_normalisation(sae: Sae) -> InputNormalisation:
    """Return the input normalisation that a sae-lens config names."""
    kind = sae.cfg.normalize_activations
    if kind == "constant_scalar_rescale":
        return scale_by_constant(float(sae.cfg.activation_normalization_factor))
    return pick_by_name("normalisation of activations", kind, NORMALISATIONS)


def _read_affine(sae: Sae, rule: ThresholdRule | TopKRule) -> AffineCoder:
    """Return the affine coder (linear encoder and decoder with biases) of a sae-lens object, with
    the given activation rule."""
    transcodes = is_saelens_transcoder(sae.cfg.architecture())
    return AffineCoder(
        W_enc=sae.W_enc.detach(),
        b_enc=sae.b_enc.detach(),
        W_dec=sae.W_dec.detach(),
        b_dec=sae.b_dec.detach(),
        rule=rule,
        b_in=None if transcodes or not sae.cfg.apply_b_dec_to_input else sae.b_dec.detach(),
    )


def _read_relu(sae: Sae) -> AffineCoder:
    """Return the coder of a sae-lens standard SAE or transcoder (ReLU)."""
    return _read_affine(sae, ThresholdRule())


def _read_jumprelu(sae: Sae) -> AffineCoder:
    """Return the coder of a sae-lens JumpReLU SAE or transcoder."""
    return _read_affine(sae, ThresholdRule(sae.threshold.detach().clamp(min=0)))


def _read_topk(sae: Sae) -> AffineCoder:
    """Return the coder of a sae-lens TopK SAE."""
    return _read_affine(sae, TopKRule(sae.cfg.k))


def _read_abstopk(sae: Sae) -> AffineCoder:
    """Return the coder of a sae-lens AbsTopK SAE."""
    return _read_affine(sae, TopKRule(sae.cfg.k, by_magnitude=True))


def _read_gated(sae: Sae) -> AffineCoder:
    """Return the coder of a sae-lens gated SAE."""
    biases = GateParameters(sae.r_mag.detach(), sae.b_gate.detach(), sae.b_mag.detach())
    b_dec = sae.b_dec.detach()
    subtract = sae.cfg.apply_b_dec_to_input
    return build_gated_coder(
        sae.W_enc.detach(), biases, sae.W_dec.detach(), b_dec, b_dec if subtract else None
    )


def _wrap_unknown(sae: Sae) -> SaeLensCoder:
    """Return a coder for an architecture that another package registered with sae-lens; its
    activations may be signed."""
    return SaeLensCoder(sae, signed=True)


CODERS: dict[str, Callable[[Sae], Coder]] = {
    "standard": _read_relu,
    "transcoder": _read_relu,
    "skip_transcoder": _read_relu,
    "jumprelu": _read_jumprelu,
    "jumprelu_transcoder": _read_jumprelu,
    "jumprelu_skip_transcoder": _read_jumprelu,
    "topk": _read_topk,
    "abstopk": _read_abstopk,
    "gated": _read_gated,
    "matching_pursuit": lambda sae: SaeLensCoder(sae, signed=False),
    "temporal": TemporalCoder,
}
"""Coder of each sae-lens architecture. BatchTopK and Matryoshka SAEs are read as jumprelu, as
sae-lens exports them."""
