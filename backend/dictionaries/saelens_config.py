"""cfg.json of sae-lens, for every version: validated and rewritten in today's form.

Version 6 keeps what does not belong to the coder under `metadata`; before, all keys were flat, and
some had other names. Training checkpoints of BatchTopK SAEs say `batchtopk`; sae-lens exports them
as JumpReLU SAEs with the threshold that training estimated, and they are read in that form.
"""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from backend.dictionaries.foreign_config import ForeignConfig, Text, refusal_error
from backend.dictionaries.module_hook_points import translate_hook
from feature_store.record_validation import (
    Count,
    Flag,
    JsonObject,
    Name,
    Real,
    WholeNumber,
    show_value,
)

RENAMED_KEYS = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "hook_point_layer": "hook_layer",
    "activation_fn_str": "activation_fn",
}
"""Keys of sae-lens configs before version 6, with today's names."""

METADATA_KEYS = (
    "model_name",
    "hook_name",
    "hook_name_out",
    "hf_hook_name",
    "hf_hook_name_out",
    "hook_head_index",
    "hook_head_index_out",
    "model_class_name",
    "model_from_pretrained_kwargs",
    "prepend_bos",
    "exclude_special_tokens",
    "neuronpedia_id",
    "context_size",
    "seqpos_slice",
    "dataset_path",
    "sae_lens_version",
    "sae_lens_training_version",
)
"""Keys that were flat in sae-lens configs before version 6 and belong to the metadata since."""

BATCH_TOPK = ("batchtopk", "matryoshka_batchtopk")
"""Architectures of sae-lens training checkpoints that are exported as a JumpReLU SAE."""

NEEDED_KEYS = {
    "topk": ("k",),
    "abstopk": ("k",),
    "matching_pursuit": ("residual_threshold", "stop_on_duplicate_support"),
    "temporal": ("n_heads", "n_attn_layers", "bottleneck_factor", "sae_diff_type", "tied_weights"),
    "transcoder": ("d_out",),
    "skip_transcoder": ("d_out",),
    "jumprelu_transcoder": ("d_out",),
    "jumprelu_skip_transcoder": ("d_out",),
}
"""Keys without which the numbers of a sae-lens architecture are undetermined, because sae-lens
would use a default."""

TELLTALE_KEYS = ("k", "d_out", "residual_threshold", "n_heads")
"""Keys that only architectures other than `standard` have; `standard` is the default of configs
without the key."""

SCALABLE_ARCHITECTURES = ("standard", "gated", "topk", "abstopk", "jumprelu")
"""sae-lens architectures into whose decoder a scale of each feature can be folded."""


class SaeLensMetadata(ForeignConfig):
    """Metadata of a sae-lens cfg.json: language model, hook points and training texts."""

    model_name: Text | None = None
    hook_name: Text | None = None
    hook_name_out: Text | None = None
    hf_hook_name: Text | None = None
    hf_hook_name_out: Text | None = None
    hook_head_index: WholeNumber | None = None
    prepend_bos: Flag | None = None
    context_size: WholeNumber | None = None
    model_from_pretrained_kwargs: JsonObject | None = None
    l0: Real | None = None
    explained_variance: Real | None = None
    variance_explained: Real | None = None


class SaeLensConfig(ForeignConfig):
    """Validated configuration (cfg.json) of a sae-lens dictionary of any version, in the form of
    today's sae-lens."""

    architecture: Name = "standard"
    d_in: Count
    d_sae: Count
    d_out: Count | None = None
    apply_b_dec_to_input: Flag | None = None
    normalize_activations: Literal[
        "none",
        "expected_average_only_in",
        "constant_norm_rescale",
        "constant_scalar_rescale",
        "layer_norm",
        "covariance_whitening",
    ] = "none"
    reshape_activations: Literal["none", "hook_z"] | None = None
    activation_fn: Literal["relu", "topk", "jumprelu"] | None = None
    activation_fn_kwargs: JsonObject = Field(default_factory=dict)
    k: Real | None = Field(default=None, gt=0)
    rescale_acts_by_decoder_norm: Flag | None = None
    finetuning_scaling_factor: Flag = False
    residual_threshold: Real | None = Field(default=None, ge=0)
    max_iterations: Count | None = None
    stop_on_duplicate_support: Flag | None = None
    n_heads: Count | None = None
    n_attn_layers: Count | None = None
    bottleneck_factor: Count | None = None
    sae_diff_type: Literal["relu", "topk"] | None = None
    kval_topk: Count | None = None
    tied_weights: Flag | None = None
    activation_normalization_factor: Real | None = Field(default=None, gt=0)
    metadata: SaeLensMetadata = Field(default_factory=SaeLensMetadata)

    @model_validator(mode="before")
    @classmethod
    def _take_todays_names(cls, content: Mapping[str, object]) -> dict[str, object]:
        """Rename the keys of a cfg.json of an older sae-lens version, and move keys that stood at
        the top level into its metadata."""
        found = {RENAMED_KEYS.get(key, key): value for key, value in content.items()}
        found = {**found, **{key: content[key] for key in content if key not in RENAMED_KEYS}}
        nested = found.get("metadata", {})
        if isinstance(nested, Mapping):
            flat = {key: found[key] for key in METADATA_KEYS if key in found}
            merged = {**flat, **{k: v for k, v in nested.items() if v is not None}}
            found["metadata"] = _fill_layer(merged, found.get("hook_layer"))
        scaled = found.get("normalize_activations")
        if isinstance(scaled, bool):  # versions before 3
            found["normalize_activations"] = "expected_average_only_in" if scaled else "none"
        return found

    @model_validator(mode="after")
    def _settle(self) -> Self:
        """Check the keys of a sae-lens config against its architecture, and refuse
        contradictions."""
        unsaid = "architecture" not in self.model_fields_set and self.activation_fn != "topk"
        if unsaid and (self.metadata.hook_name_out or self._has_any(TELLTALE_KEYS)):
            raise _missing_key_error("architecture")
        self._settle_activation()
        for key in NEEDED_KEYS.get(self.architecture, ()):
            if getattr(self, key) is None:
                raise _missing_key_error(key)
        if self.architecture in ("topk", "abstopk"):
            self.k = _whole_k("k", self.k, self.d_sae)
        if self.sae_diff_type == "topk":
            if self.kval_topk is None:
                raise _missing_key_error("kval_topk")
            _whole_k("kval_topk", self.kval_topk, self.d_sae)
        if self.normalize_activations == "constant_scalar_rescale":
            if self.architecture != "temporal":
                raise refusal_error(
                    "normalize_activations is 'constant_scalar_rescale', which only temporal SAEs "
                    "have",
                )
            if self.activation_normalization_factor is None:
                raise _missing_key_error("activation_normalization_factor")
        self._settle_input_bias()
        if self.finetuning_scaling_factor and (
            self.architecture not in SCALABLE_ARCHITECTURES or self.rescale_acts_by_decoder_norm
        ):
            raise refusal_error(
                "finetuning_scaling_factor is not defined for its architecture; it is for "
                + ", ".join(SCALABLE_ARCHITECTURES),
            )
        return self

    def _has_any(self, keys: tuple[str, ...]) -> bool:
        """Return whether the config gives a value for any of these keys."""
        return any(getattr(self, key) is not None for key in keys)

    def _settle_activation(self) -> None:
        """Apply `activation_fn`, which in versions before 6 decided the architecture and k."""
        if self.activation_fn == "topk":
            if self.architecture not in ("standard", "topk"):
                raise refusal_error(
                    f"activation_fn is 'topk' and architecture {self.architecture!r}"
                )
            self.architecture = "topk"
        if self.activation_fn == "jumprelu" and not self.architecture.startswith("jumprelu"):
            raise refusal_error(
                f"activation_fn is 'jumprelu' and architecture {self.architecture!r}"
            )
        if self.architecture == "topk" and self.activation_fn_kwargs.get("k") is not None:
            old = _whole_k("activation_fn_kwargs.k", self.activation_fn_kwargs["k"], self.d_sae)
            if self.k is not None and self.k != old:
                raise refusal_error(f"k is {self.k:g} and activation_fn_kwargs.k {old}")
            self.k = old

    def _settle_input_bias(self) -> None:
        """Decide whether the decoder bias is subtracted from the SAE's input, where its sae-lens
        config does not say."""
        transcodes = is_saelens_transcoder(self.architecture)
        if transcodes and self.apply_b_dec_to_input:
            raise refusal_error(
                "apply_b_dec_to_input is true, which has no meaning for a transcoder: its decoder "
                "bias belongs to another hook point",
            )
        if self.apply_b_dec_to_input is None:  # files from before there was a choice
            self.apply_b_dec_to_input = not transcodes

    @property
    def is_batch_topk(self) -> bool:
        """Whether this is a BatchTopK training checkpoint, which is read as a JumpReLU SAE."""
        return self.architecture in BATCH_TOPK

    def find_hook_points(self) -> tuple[str | None, str | None]:
        """Return the hook points (read, written) of the config in TransformerLens' names; None
        where it names none."""
        transcodes = is_saelens_transcoder(self.architecture)
        reads = self.metadata.hook_name or self.metadata.hf_hook_name
        writes = self.metadata.hook_name_out or self.metadata.hf_hook_name_out
        return (
            translate_hook(reads, reads_input=transcodes) if reads else None,
            translate_hook(writes) if writes else None,
        )

    def as_saelens(self) -> dict[str, object]:
        """Return the config as a mapping for sae-lens' own config class, with every value on which
        the dictionary's activations depend.

        A version is added, so that sae-lens does not treat the config as an older one.
        """
        whole = self.model_dump(exclude_none=True)
        reads, writes = self.find_hook_points()
        found = {"hook_name": reads, "hook_name_out": writes}
        whole["metadata"] = {**whole["metadata"], **{k: v for k, v in found.items() if v}}
        if self.reshape_activations is None:
            whole["reshape_activations"] = "hook_z" if "hook_z" in (reads or "") else "none"
        if self.is_batch_topk:
            whole["architecture"] = "jumprelu"
        return {**whole, "sae_lens_version": "6.0.0", "device": "cpu", "dtype": "float32"}


def is_saelens_transcoder(architecture: str) -> bool:
    """Return whether sae-lens' name of an architecture is that of a transcoder."""
    return architecture.endswith("transcoder")


def _fill_layer(metadata: dict[str, object], layer: object) -> dict[str, object]:
    """Replace `{layer}` in a hook point of early sae-lens versions, such as
    `blocks.{layer}.hook_resid_post`."""
    name = metadata.get("hook_name")
    whole = isinstance(layer, int) and not isinstance(layer, bool)
    if isinstance(name, str) and "{layer}" in name and whole:
        return {**metadata, "hook_name": name.replace("{layer}", str(layer))}
    return metadata


def _whole_k(key: str, value: object, d_sae: int) -> int:
    """Return sae-lens' number k of features kept per token, 1 to d_sae; raise a validation error
    for other values."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else 0
    if not 1 <= number <= d_sae or not float(number).is_integer():
        shown = f"{value:g}" if isinstance(value, float) else show_value(value)
        raise refusal_error(f"{key} is {shown}, and must be a whole number, 1 to {d_sae}")
    return int(number)


def _missing_key_error(key: str) -> Exception:
    """Return the validation error for a sae-lens config without a key on which the dictionary's
    activations depend."""
    return refusal_error(f"it has no {key}, which decides its numbers")
