"""What every dictionary offers, whoever trained it: encode, decode, directions, hook points.

A dictionary is a coder (the maths on normalised activations) between a per-token normalisation and
its inverse. Nothing is remembered between calls, so that threads can share one dictionary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.dictionaries.input_normalisation import NO_NORMALISATION, InputNormalisation
from backend.model.weight_processing import WeightProcessing
from feature_store.errors import InputError

Precision = Literal["exact", "bf16"]
"""`bf16` multiplies in bfloat16: about twice as fast, values and support only approximate."""


class Triples(NamedTuple):
    """The non-zero activations of n tokens, ordered by token, then by feature."""

    token: Int[Tensor, "n"]
    """int32, row of x, its leading axes flattened"""
    feature: Int[Tensor, "n"]
    """int32"""
    value: Float[Tensor, "n"]


@runtime_checkable
class Coder(Protocol):
    """The maths of one architecture, on activations z that are normalised already."""

    @property
    def signed(self) -> bool:
        """Whether an activation can be negative."""
        ...

    @property
    def needs_sequence(self) -> bool:
        """Whether a token's code depends on the tokens before it: z is [batch pos d_in] then."""
        ...

    @property
    def W_dec(self) -> Float[Tensor, "d_sae d_out"]: ...

    @property
    def W_enc(self) -> Float[Tensor, "d_in d_sae"] | None: ...

    def encode(self, z: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_sae"]: ...

    def decode(
        self, f: Float[Tensor, "... d_sae"], z: Float[Tensor, "... d_in"]
    ) -> Float[Tensor, "... d_out"]:
        """f in z's units, with whatever the architecture predicts from z without its features."""
        ...

    def encode_sparse(self, z: Float[Tensor, "... d_in"], precision: Precision) -> Triples: ...


@dataclass(frozen=True, eq=False)
class Dictionary:
    """An SAE, transcoder, set of directions or a layer's own neurons, ready to use.

    Activations come flattened (`hook_z`: heads * d_head) and in the hook's own units. They are
    computed and returned in the dictionary's dtype (float32, or float64 where the placement asks
    for it) whatever x's is.
    """

    name: str
    hook_name: str
    """Where it reads."""
    hook_out: str
    """Where it writes: another hook for transcoders."""
    architecture: str
    source: str
    """What the user asked for: a folder's name, RELEASE/ID, identity:HOOK, FILE@HOOK."""
    weights_hash: str
    """sha256 over the tensors as loaded, hex."""
    coder: Coder
    norm: InputNormalisation = NO_NORMALISATION
    W_skip: Float[Tensor, "d_out d_in"] | None = None
    """The linear map that some transcoders add, from raw x."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    """model_name, context_size, prepend_bos, published l0, … as its files say; nothing added."""
    notes: tuple[str, ...] = ()
    """Sentences on how its files were read, where that was not plain."""

    @property
    def signed(self) -> bool:
        return self.coder.signed

    @property
    def needs_sequence(self) -> bool:
        return self.coder.needs_sequence

    @property
    def d_in(self) -> int:
        W_enc = self.coder.W_enc
        return self.d_out if W_enc is None else W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        return self.coder.W_dec.shape[0]

    @property
    def d_out(self) -> int:
        return self.coder.W_dec.shape[1]

    @cached_property
    def W_dec(self) -> Float[Tensor, "d_sae d_out"]:
        """What one unit of each activation, as `encode` gives it, adds at `hook_out`.

        In the hook's own units: decode(f, x) - decode(0, x) = f @ W_dec. Only where the
        normalisation differs from token to token (`per_token_norm`) is it in that token's
        normalised units; `decode` then gives the exact effect.
        """
        scale = self.norm.out_scale
        return self.coder.W_dec if scale == 1.0 else self.coder.W_dec * scale

    @property
    def W_enc(self) -> Float[Tensor, "d_in d_sae"] | None:
        """Columns that read each activation from the normalised x; None where none is linear."""
        return self.coder.W_enc

    @property
    def per_token_norm(self) -> bool:
        return self.norm.per_token

    @property
    def model_kwargs(self) -> Mapping[str, object]:
        """The keywords with which its model is to be loaded; InputError for what is no table."""
        kwargs = self.metadata.get("model_from_pretrained_kwargs") or {}
        if not isinstance(kwargs, Mapping):
            raise InputError(
                f"{self.source} has model_from_pretrained_kwargs = {kwargs!r}: it must be a table."
            )
        return kwargs

    @cached_property
    def processing(self) -> WeightProcessing:
        """How the model must be processed; InputError for a processing that is not known."""
        return WeightProcessing.parse(self.model_kwargs)

    def encode(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_sae"]:
        """Dense activations, as sae-lens gives them."""
        return self.coder.encode(self.norm.into(self._own(x))[0])

    @torch.no_grad()
    def encode_sparse(
        self, x: Float[Tensor, "... d_in"], precision: Precision = "exact"
    ) -> Triples:
        """The non-zero activations only, in tiles: never a dense [tokens d_sae].

        Where `needs_sequence`, the last two axes of x are one sequence's.
        """
        return self.coder.encode_sparse(self.norm.into(self._own(x))[0], precision)

    def decode(
        self, f: Float[Tensor, "... d_sae"], x: Float[Tensor, "... d_in"]
    ) -> Float[Tensor, "... d_out"]:
        """What these activations stand for at `hook_out`, with the de-normalisation of x's tokens.

        Skip connections and predictions from earlier tokens are read from x, so that
        decode(f2, x) - decode(f1, x) is the effect of an edit and nothing else.
        """
        x = self._own(x)
        z, undo = self.norm.into(x)
        out = undo(self.coder.decode(f.to(x.dtype), z))
        return out if self.W_skip is None else out + x @ self.W_skip.T

    def reconstruct(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """decode(encode(x), x): the architecture's own forward pass, in `hook_out`'s units."""
        return self.decode(self.encode(x), x)

    def _own(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_in"]:
        W_dec = self.coder.W_dec
        return x.to(device=W_dec.device, dtype=W_dec.dtype)
