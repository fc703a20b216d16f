"""Directions without training: a layer's own neurons, one vector, a matrix of them.

PCA, SNMF, probes and steering vectors come as a safetensors file with a tensor `directions`
[n d_model] (or [d_model]; or one tensor of any name) and, where a probe has one, `bias` [n]. The
code is directions · x + bias, with sign and never sparse; one unit of it adds one direction. For
directions that are not orthonormal the sum over features is therefore no reconstruction, and the
self-check says so.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from backend.dictionaries.affine import Affine
from backend.dictionaries.base import Dictionary, Precision, Triples
from backend.dictionaries.rules import Linear
from backend.dictionaries.sources import Source
from backend.dictionaries.sparse import dense_to_triples
from backend.dictionaries.tensors import moved, read_safetensors, weights_hash
from backend.finite_weights import check_finite
from feature_store.errors import InputError


class Identity:
    """The code is the activation itself: one feature per neuron, head coordinate or dimension."""

    signed = True
    needs_sequence = False

    def __init__(self, d: int, device: torch.device, dtype: torch.dtype) -> None:
        self._one = torch.eye(d, device=device, dtype=dtype)

    @property
    def W_dec(self) -> Float[Tensor, "d d"]:
        return self._one

    @property
    def W_enc(self) -> Float[Tensor, "d d"]:
        return self._one

    def encode(self, z: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        return z

    def decode(
        self, f: Float[Tensor, "... d"], z: Float[Tensor, "... d"]
    ) -> Float[Tensor, "... d"]:
        return f

    def encode_sparse(self, z: Float[Tensor, "... d"], precision: Precision) -> Triples:
        return dense_to_triples(z.flatten(0, -2))


def load(
    source: Source, device: torch.device, dtype: torch.dtype, width: Callable[[str], int] | None
) -> Dictionary:
    """`identity:HOOK` (which needs the model's width there) or `FILE.safetensors@HOOK`."""
    if source.kind == "identity":
        return _identity(source, device, dtype, width)
    tensors = read_safetensors(source.path)
    check_finite(tensors, str(source.path))
    kept = moved(_directions(tensors, source.path), device, dtype)
    directions = kept["directions"]
    coder = Affine(
        W_enc=directions.T.contiguous(),
        b_enc=kept["bias"],
        W_dec=directions,
        b_dec=directions.new_zeros(directions.shape[1]),
        rule=Linear(),
    )
    return _dictionary(source, "directions", coder, weights_hash(tensors))


def _identity(
    source: Source, device: torch.device, dtype: torch.dtype, width: Callable[[str], int] | None
) -> Dictionary:
    if width is None:
        raise InputError(f"{source.spec} has the model's own width: load it together with a model.")
    assert source.hook is not None
    d = width(source.hook)
    digest = weights_hash({"identity": torch.tensor(d)})
    return _dictionary(source, "identity", Identity(d, device, dtype), digest)


def _dictionary(
    source: Source, architecture: str, coder: Affine | Identity, digest: str
) -> Dictionary:
    assert source.hook is not None  # `check_source` has refused a file without one
    return Dictionary(
        name=source.default_name,
        hook_name=source.hook,
        hook_out=source.hook_out or source.hook,
        architecture=architecture,
        source=source.public,
        weights_hash=digest,
        coder=coder,
    )


def _directions(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """`directions` [n d] and `bias` [n] (zeros where the file has none)."""
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
