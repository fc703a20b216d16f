"""A sae-lens checkpoint before loading: config and tensors are validated and rewritten before
sae-lens reads them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from backend.dictionaries.foreign_config import pick_kind
from backend.dictionaries.saelens_config import SaeLensConfig
from backend.model.finite_weights import check_dictionary_finite
from feature_store.errors import InputError

SCALE_NAMES = ("finetuning_scaling_factor", "scaling_factor")
"""Names of the finetuning scale of activations in the tensors of sae-lens' versions."""
UNIT_NORM_TOLERANCE = 1e-3
"""Deviation of decoder norms from 1 below which they do not affect a threshold."""


class SaeLensCheckpoint:
    """Config and tensors of a sae-lens checkpoint, validated and rewritten in today's form.

    `notes` are sentences for the user; `decoder_scale` [d_sae] multiplies the decoder rows (None
    for no scale). InputError for a checkpoint that cannot be read.
    """

    def __init__(
        self,
        content: Mapping[str, object],
        state: Mapping[str, Tensor],
        config_at: str,
        weights_at: str,
    ) -> None:
        from sae_lens.registry import SAE_CLASS_REGISTRY

        self.config = SaeLensConfig.read(content, config_at)
        self.notes: list[str] = []
        self._config_at, self._weights_at = config_at, weights_at
        self._state = {name: t.to(torch.float32) for name, t in state.items()}
        check_dictionary_finite(self._state, weights_at)
        self._described = self.config.as_saelens()
        architecture = str(self._described["architecture"])
        pick_kind(config_at, "sae-lens architecture", architecture, SAE_CLASS_REGISTRY)
        self.decoder_scale = self._take_decoder_scale()
        if "log_threshold" in self._state:  # JumpReLU checkpoints of versions before 6
            self._state["threshold"] = self._state.pop("log_threshold").exp()
        if self.config.is_batch_topk:
            self._use_batch_threshold(state)

    def config_and_tensors(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the validated config and tensors of the sae-lens checkpoint, in the form of
        sae-lens' own loaders."""
        return dict(self._described), dict(self._state)

    def convert(self, *_: object, **__: object) -> tuple[Any, dict[str, Tensor]]:
        """Return the checkpoint's config and tensors, ignoring all arguments: the form of function
        that `SAE.load_from_disk` of sae-lens takes as its converter."""
        return self.config_and_tensors()

    def _take_decoder_scale(self) -> Tensor | None:
        """Return the factor of each feature's decoder row that finetuning learned [d_sae], and
        remove it from the sae-lens checkpoint's tensors; None for no scale."""
        found = [self._state.pop(name) for name in SCALE_NAMES if name in self._state]
        if not found:
            if self.config.finetuning_scaling_factor:
                raise InputError(
                    f"{self._config_at} has finetuning_scaling_factor = true, and "
                    f"{self._weights_at} holds no scaling_factor."
                )
            return None
        scale = found[0].reshape(-1)
        if bool((scale == 1).all()):
            return None
        if not self.config.finetuning_scaling_factor:
            raise InputError(
                f"{self._weights_at} holds a scaling_factor that is not 1, and "
                f"{self._config_at} has no finetuning_scaling_factor = true: whether it counts is "
                "not known."
            )
        if len(scale) not in (1, self.config.d_sae):
            raise InputError(
                f"{self._weights_at} holds a scaling_factor of {len(scale)} values for "
                f"{self.config.d_sae} features."
            )
        self.notes.append("Its finetuning_scaling_factor is multiplied into the decoder.")
        return scale.expand(self.config.d_sae).contiguous()

    def _use_batch_threshold(self, given: Mapping[str, Tensor]) -> None:
        """Convert a BatchTopK training checkpoint to the JumpReLU SAE that sae-lens
        would export."""
        if "topk_threshold" not in given:
            raise InputError(
                f"{self._weights_at} holds no topk_threshold: a BatchTopK dictionary without its "
                "threshold can't be read outside training. Export it with save_inference_model."
            )
        threshold = float(self._state.pop("topk_threshold").reshape(-1)[0])
        if not threshold > 0:
            raise InputError(
                f"{self._weights_at} has a topk_threshold of {threshold:g}: training ended before "
                "one was estimated, so its activations on single tokens are not defined."
            )
        if self.config.rescale_acts_by_decoder_norm is None:
            self._check_unit_decoder()
        self._state["threshold"] = torch.full((self.config.d_sae,), threshold)
        self.notes.append(
            f"It is a BatchTopK training checkpoint, read as a JumpReLU SAE with the threshold "
            f"{threshold:.4g} that training estimated, as sae-lens exports it."
        )

    def _check_unit_decoder(self) -> None:
        """Raise InputError where a BatchTopK checkpoint does not say `rescale_acts_by_decoder_norm`
        and its decoder rows are not of norm 1, so the meaning of its threshold is unknown."""
        W_dec = self._state.get("W_dec")
        if W_dec is None or W_dec.ndim != 2:
            return  # sae-lens says which tensor is wrong
        if float((W_dec.norm(dim=1) - 1).abs().max()) > UNIT_NORM_TOLERANCE:
            raise InputError(
                f"{self._config_at} has no rescale_acts_by_decoder_norm, and its decoder's rows "
                "are not of norm 1: whether the threshold counts those norms is not known."
            )
