"""The `Dictionary` interface that every SAE, transcoder and direction matrix has here: encode,
decode, decoder directions and hook points.

A dictionary is a coder (the maths on normalised activations) between a normalisation of each
token's activation and its inverse. No call leaves state in the dictionary, so threads can share
one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.dictionaries.input_normalisation import NO_NORMALISATION, InputNormalisation
from backend.model.weight_processing import WeightProcessing
from feature_store.errors import InputError
from feature_store.hook_sites import HookSite, ReadSite, SitedDictionary, WriteSite

Precision = Literal["exact", "bf16"]
"""Precision of sparse encoding: `bf16` multiplies in bfloat16, about twice as fast, with
approximate values and an approximate set of active features."""


class Triples(NamedTuple):
    """Sparse activations of n tokens as (token, feature, value) triples, ordered by token, then by
    feature."""

    token: Int[Tensor, "n"]
    """Token index of each activation, int32: the row of x with its leading axes flattened."""
    feature: Int[Tensor, "n"]
    """Feature index of each activation, int32."""
    value: Float[Tensor, "n"]


@runtime_checkable
class Coder(Protocol):
    """The maths of one SAE architecture on activations z that are already normalised."""

    @property
    def signed(self) -> bool:
        """Whether a feature's activation can be negative."""
        ...

    @property
    def needs_sequence(self) -> bool:
        """Whether a token's code depends on earlier tokens; z must then be [batch pos d_in]."""
        ...

    @property
    def W_dec(self) -> Float[Tensor, "d_sae d_out"]:
        """Decoder matrix of the coder, [d_sae d_out]."""
        ...

    @property
    def W_enc(self) -> Float[Tensor, "d_in d_sae"] | None:
        """Encoder matrix of the coder, [d_in d_sae]; None where the encoder is not linear."""
        ...

    def encode(self, z: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_sae"]:
        """Return the dense activations [..., d_sae] that the coder of an SAE architecture computes
        from normalised activations z."""
        ...

    def decode(
        self, f: Float[Tensor, "... d_sae"], z: Float[Tensor, "... d_in"]
    ) -> Float[Tensor, "... d_out"]:
        """Return the reconstruction of activations f in z's units, including what the architecture
        predicts from z without its features."""
        ...

    def encode_sparse(self, z: Float[Tensor, "... d_in"], precision: Precision) -> Triples:
        """Return the non-zero activations that the coder of an SAE architecture computes from z, as
        triples."""
        ...


@dataclass(frozen=True, eq=False)
class Dictionary(SitedDictionary):
    """A loaded dictionary: an SAE, transcoder, crosscoder, set of directions or a layer's neurons.

    Activations are flattened (`hook_z`: heads * d_head) and in the hook point's own units. Those of
    several read sites stand side by side, and so do those of several write sites. They are computed
    and returned in the dictionary's dtype (float32, or float64 where the placement asks for it),
    whatever the dtype of x is.
    """

    name: str
    """Name of the dictionary in the store and on every page."""
    reads: tuple[ReadSite, ...]
    """Hook points that the dictionary reads, with the encoder rows of each."""
    writes: tuple[WriteSite, ...]
    """Hook points that the dictionary writes, with the decoder columns of each: other hook points
    for transcoders, several for cross-layer transcoders."""
    architecture: str
    """Architecture of the coder, in the words of the library that saved it: `jumprelu`, `topk`,
    `AutoEncoder`."""
    source: str
    """Specification that the user gave, without folders: a folder's name, RELEASE/ID, identity:HOOK
    or FILE@HOOK."""
    weights_hash: str
    """SHA-256 of the dictionary's tensors as loaded, in hexadecimal."""
    coder: Coder
    norm: InputNormalisation = NO_NORMALISATION
    """Normalisation of the input activations and its inverse."""
    W_skip: Float[Tensor, "d_out d_in"] | None = None
    """Skip connection of a transcoder: a linear map that is applied to the unnormalised x and added
    to the output."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    """Facts from the dictionary's own files: model_name, context_size, prepend_bos, published l0
    and others."""
    notes: tuple[str, ...] = ()
    """Sentences for the user about how the dictionary's files were interpreted, where that was not
    obvious."""

    def __post_init__(self) -> None:
        _check_sites(self.name, "reads", self.reads, self.d_in)
        _check_sites(self.name, "writes", self.writes, self.d_out)

    @property
    def site_owner(self) -> str:
        """Name of the dictionary in error messages about its hook points."""
        return self.name

    @property
    def signed(self) -> bool:
        """Whether a feature of the dictionary can have a negative activation."""
        return self.coder.signed

    @property
    def needs_sequence(self) -> bool:
        """Whether encoding needs whole sequences, because a token's code depends on
        earlier tokens."""
        return self.coder.needs_sequence

    @property
    def d_in(self) -> int:
        """Width of the activations that the dictionary reads, summed over all its read sites."""
        W_enc = self.coder.W_enc
        return self.d_out if W_enc is None else W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        """Number of features of the dictionary."""
        return self.coder.W_dec.shape[0]

    @property
    def d_out(self) -> int:
        """Width of the activations that the dictionary reconstructs, summed over all its write
        sites."""
        return self.coder.W_dec.shape[1]

    @cached_property
    def W_dec(self) -> Float[Tensor, "d_sae d_out"]:
        """Decoder directions [d_sae d_out]: what one unit of activation adds at the write sites.

        They are in the hook points' own units: decode(f, x) - decode(0, x) = f @ W_dec. Only where
        the normalisation differs from token to token (`per_token_norm`) are they in that token's
        normalised units; `decode` then gives the exact effect.
        """
        scale = self.norm.out_scale
        return self.coder.W_dec if scale == 1.0 else self.coder.W_dec * scale

    @property
    def W_enc(self) -> Float[Tensor, "d_in d_sae"] | None:
        """Encoder matrix [d_in d_sae], whose columns read each activation from the normalised x;
        None where the encoder is not linear."""
        return self.coder.W_enc

    @property
    def per_token_norm(self) -> bool:
        """Whether the scale of the dictionary's input normalisation differs from token to token."""
        return self.norm.per_token

    @property
    def model_kwargs(self) -> Mapping[str, object]:
        """Keyword arguments with which a dictionary's language model must be loaded
        (model_from_pretrained_kwargs); InputError where the metadata holds no table of them."""
        kwargs = self.metadata.get("model_from_pretrained_kwargs") or {}
        if not isinstance(kwargs, Mapping):
            raise InputError(
                f"{self.source} has model_from_pretrained_kwargs = {kwargs!r}: it must be a table."
            )
        return kwargs

    @cached_property
    def processing(self) -> WeightProcessing:
        """Weight processing that the dictionary expects of its language model; InputError for an
        unknown kind of processing."""
        return WeightProcessing.parse(self.model_kwargs)

    def encode(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_sae"]:
        """Return the dictionary's dense feature activations [..., d_sae] for the model activations
        x, equal to those of sae-lens."""
        return self.coder.encode(self.norm.into(self._match_weights(x))[0])

    @torch.no_grad()
    def encode_sparse(
        self, x: Float[Tensor, "... d_in"], precision: Precision = "exact"
    ) -> Triples:
        """Return the dictionary's non-zero feature activations for the model activations x as
        triples, computed in tiles: a dense [tokens d_sae] matrix is never held.

        Where `needs_sequence` is true, the last two axes of x must be those of one sequence.
        """
        return self.coder.encode_sparse(self.norm.into(self._match_weights(x))[0], precision)

    def decode(
        self, f: Float[Tensor, "... d_sae"], x: Float[Tensor, "... d_in"]
    ) -> Float[Tensor, "... d_out"]:
        """Return the reconstruction [..., d_out] at the write sites, in the units of x's tokens.

        Skip connections and predictions from earlier tokens are read from x, so that
        decode(f2, x) - decode(f1, x) is the effect of an edit and nothing else.
        """
        x = self._match_weights(x)
        z, undo = self.norm.into(x)
        out = undo(self.coder.decode(f.to(x.dtype), z))
        return out if self.W_skip is None else out + x @ self.W_skip.T

    def reconstruct(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """Return decode(encode(x), x), the forward pass of the architecture, in the units of the
        activations that are written."""
        return self.decode(self.encode(x), x)

    def _match_weights(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_in"]:
        """Move activations x to the device and dtype of the dictionary's weights."""
        W_dec = self.coder.W_dec
        return x.to(device=W_dec.device, dtype=W_dec.dtype)


def single_sites(
    hook_name: str, hook_out: str, coder: Coder
) -> tuple[tuple[ReadSite, ...], tuple[WriteSite, ...]]:
    """Return the read site and the write site, each as a tuple of one, of a dictionary that reads
    one hook point of the model and reconstructs one."""
    d_out = coder.W_dec.shape[1]
    d_in = d_out if coder.W_enc is None else coder.W_enc.shape[0]
    return (ReadSite(hook_name, 0, d_in),), (WriteSite(hook_out, 0, d_out),)


def _check_sites(name: str, does: str, sites: Sequence[HookSite], width: int) -> None:
    """Raise InputError where the slices of a dictionary's hook points do not cover its `width`
    activation coordinates one after the other, without gap or overlap."""
    ends = [0, *(site.stop for site in sites)]
    starts = [*(site.start for site in sites), width]
    if not sites or ends != starts or any(site.width < 1 for site in sites):
        slices = ", ".join(f"{site.hook} {site.start} to {site.stop}" for site in sites) or "none"
        raise InputError(
            f"The hook points that {name} {does} ({slices}) do not divide its {width} coordinates: "
            "give the hook points successive slices."
        )
