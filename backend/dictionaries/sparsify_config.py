"""cfg.json of EleutherAI's sparsify, for every version of the library."""

from typing import Literal, Self

from pydantic import model_validator

from backend.dictionaries.foreign_config import ForeignConfig, refusal_error
from feature_store.record_validation import Count, Flag, WholeNumber

REFUSED_SETTINGS = (
    "embed_skip",
    "gram_lookup",
    "n_targets",
    "n_sources",
    "normalize_io",
    "divide_cross_layer",
    "train_post_encoder",
    "post_encoder_scale",
)
"""sparsify settings that are refused: the coder would read or write more than its hook point, or in
another scale."""


class SparsifyConfig(ForeignConfig):
    """A sparsify cfg.json; d_in and num_latents may be absent, since the weights determine them."""

    k: Count
    d_in: Count | None = None
    num_latents: WholeNumber | None = None
    """Number of features; 0 stands for expansion_factor × d_in."""
    expansion_factor: Count | None = None
    activation: Literal["topk", "groupmax"] = "topk"
    signed: Flag = False
    transcode: Flag = False
    skip_connection: Flag = False
    normalize_decoder: Flag = True
    """Training setting without effect on a trained sparsify checkpoint."""
    multi_topk: Flag = False
    """Second training loss of sparsify; it does not change a token's code."""

    @model_validator(mode="after")
    def _refuse_other_coders(self) -> Self:
        """Refuse a sparsify config whose settings would make the SAE compute something that is not
        implemented here."""
        extra = self.model_extra or {}
        for key in REFUSED_SETTINGS:
            if extra.get(key):
                raise refusal_error(f"it was trained with {key}, which is not read")
        if extra.get("coalesce_topk") not in (None, "none"):
            raise refusal_error("it was trained with coalesce_topk, which is not read")
        if self.skip_connection and not self.transcode:
            raise refusal_error(
                "skip_connection is true and transcode is not: only transcoders have one"
            )
        return self

    def check_sizes(self, d_in: int, d_sae: int) -> str | None:
        """Return what in the config contradicts the shape of the weights [d_sae d_in]; None if
        nothing does."""
        if self.d_in not in (None, d_in):
            return f"d_in = {self.d_in}, and the weights read vectors of {d_in}"
        if self.num_latents and self.num_latents != d_sae:
            return f"num_latents = {self.num_latents}, and the weights have {d_sae} features"
        if self.k > d_sae:
            return f"k = {self.k}, and the weights have {d_sae} features: k must be 1 to {d_sae}"
        if self.activation == "groupmax" and d_sae % self.k:
            return f"{d_sae} features, which k = {self.k} groups do not divide"
        return None
