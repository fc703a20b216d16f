"""Dictionaries made of given directions: a layer's own neurons (`identity:HOOK`), one vector, or a
matrix of directions in a file.

PCA, SNMF, probes and steering vectors come as a safetensors file with a tensor `directions` [n
d_model] (or [d_model], or one tensor of any name) and an optional `bias` [n]. The code is
directions · x + bias, signed and never sparse; one unit of it adds one direction. For directions
that are not orthonormal the sum over features is therefore not a reconstruction, and the self-check
reports that.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from backend.dictionaries.activation_rules import LinearRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary, Precision, Triples, single_sites
from backend.dictionaries.dictionary_sources import DictionarySource
from backend.dictionaries.sparse_encoder import dense_to_triples
from backend.dictionaries.weight_files import move_tensors, read_safetensors, weights_hash
from backend.model.finite_weights import check_dictionary_finite
from feature_store.errors import InputError


class IdentityCoder:
    """Identity coder: one feature for each neuron, head coordinate or residual dimension, equal to
    the activation itself."""

    signed = True
    needs_sequence = False

    def __init__(self, d: int, device: torch.device, dtype: torch.dtype) -> None:
        self._one = torch.eye(d, device=device, dtype=dtype)

    @property
    def W_dec(self) -> Float[Tensor, "d d"]:
        """Decoder of the identity coder: the identity matrix [d d]."""
        return self._one

    @property
    def W_enc(self) -> Float[Tensor, "d d"]:
        """Encoder of the identity coder: the identity matrix [d d]."""
        return self._one

    def encode(self, z: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """Return the activation z itself as the code of an identity dictionary."""
        return z

    def decode(
        self, f: Float[Tensor, "... d"], z: Float[Tensor, "... d"]
    ) -> Float[Tensor, "... d"]:
        """Return the code f itself as the reconstruction of an identity dictionary."""
        return f

    def encode_sparse(self, z: Float[Tensor, "... d"], precision: Precision) -> Triples:
        """Return the non-zero coordinates of the activation z, the code of an identity dictionary,
        as triples."""
        return dense_to_triples(z.flatten(0, -2))


def load(
    source: DictionarySource,
    device: torch.device,
    dtype: torch.dtype,
    width: Callable[[str], int] | None,
) -> Dictionary:
    """Return the dictionary of `identity:HOOK`, which needs the model's width there, or of
    `FILE.safetensors@HOOK`."""
    if source.kind == "identity":
        return _load_identity(source, device, dtype, width)
    tensors = read_safetensors(source.path)
    check_dictionary_finite(tensors, str(source.path))
    kept = move_tensors(_read_directions(tensors, source.path), device, dtype)
    directions = kept["directions"]
    coder = AffineCoder(
        W_enc=directions.T.contiguous(),
        b_enc=kept["bias"],
        W_dec=directions,
        b_dec=directions.new_zeros(directions.shape[1]),
        rule=LinearRule(),
    )
    return _build_dictionary(source, "directions", coder, weights_hash(tensors))


def _load_identity(
    source: DictionarySource,
    device: torch.device,
    dtype: torch.dtype,
    width: Callable[[str], int] | None,
) -> Dictionary:
    """Return the identity dictionary of a hook point: its own neurons or coordinates."""
    if width is None:
        raise InputError(f"{source.spec} has the model's own width: load it together with a model.")
    assert source.hook is not None
    d = width(source.hook)
    digest = weights_hash({"identity": torch.tensor(d)})
    return _build_dictionary(source, "identity", IdentityCoder(d, device, dtype), digest)


def _build_dictionary(
    source: DictionarySource, architecture: str, coder: AffineCoder | IdentityCoder, digest: str
) -> Dictionary:
    """Return the Dictionary of an identity coder, or of a file's matrix of directions."""
    assert source.hook is not None  # `check_source` has refused a file without one
    reads, writes = single_sites(source.hook, source.hook_out or source.hook, coder)
    return Dictionary(
        name=source.default_name,
        reads=reads,
        writes=writes,
        architecture=architecture,
        source=source.public,
        weights_hash=digest,
        coder=coder,
    )


def _read_directions(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the tensors `directions` [n d] and `bias` [n] of a safetensors file; the bias is zero
    where the file has none."""
    named = {name: tensor for name, tensor in tensors.items() if name != "bias"}
    if "directions" not in named and len(named) != 1:
        raise InputError(
            f"{path} holds {', '.join(sorted(tensors)) or 'no tensor'}: name one `directions` "
            "(shape [n, d_model]), or keep one tensor only."
        )
    directions = named["directions"] if "directions" in named else next(iter(named.values()))
    if directions.ndim == 1:
        directions = directions[None]
    if directions.ndim != 2 or not directions.is_floating_point():
        raise InputError(
            f"{path} holds {directions.dtype} of shape {tuple(directions.shape)}: directions are "
            "floating point, of shape [n, d_model] or [d_model]."
        )
    bias = tensors.get("bias")
    bias = directions.new_zeros(len(directions)) if bias is None else bias.reshape(-1)
    if len(bias) != len(directions):
        raise InputError(f"{path} has {len(directions)} directions and a bias of {len(bias)}.")
    return {"directions": directions, "bias": bias}
