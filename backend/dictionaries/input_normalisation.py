"""Normalisations of a token's activations before a dictionary reads them, and their inverses.

Each returns the normalised activations and the inverse *for these tokens*: scale and mean live in
the call, never in an object, so that two threads cannot swap them. The formulae are sae-lens'.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

Undo = Callable[[Tensor], Tensor]

EPS = 1e-5
"""sae-lens divides by std + EPS on the way in and multiplies by std alone on the way out."""


def return_unchanged(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class InputNormalisation:
    into: Callable[[Tensor], tuple[Tensor, Undo]]
    """x -> (z, what takes a reconstruction of z back to x's units)."""
    per_token: bool = False
    """Whether the inverse differs from token to token."""
    out_scale: float = 1.0
    """What the inverse multiplies directions by, where that is the same for every token."""


def _normalise_layer(x: Float[Tensor, "... d"]) -> tuple[Float[Tensor, "... d"], Undo]:
    mean = x.mean(dim=-1, keepdim=True)
    centred = x - mean
    std = centred.std(dim=-1, keepdim=True)
    return centred / (std + EPS), lambda y: y * std + mean


def _normalise_length(x: Float[Tensor, "... d"]) -> tuple[Float[Tensor, "... d"], Undo]:
    scale = x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True)
    return x * scale, lambda y: y / scale


NO_NORMALISATION = InputNormalisation(lambda x: (x, return_unchanged))

NORMALISATIONS = {
    "none": NO_NORMALISATION,
    "layer_norm": InputNormalisation(_normalise_layer, per_token=True),
    "constant_norm_rescale": InputNormalisation(_normalise_length, per_token=True),
}


def scale_by_constant(factor: float) -> InputNormalisation:
    """Every activation times `factor` on the way in, divided by it on the way out."""
    return InputNormalisation(lambda x: (x * factor, lambda y: y / factor), out_scale=1 / factor)


def normalise_input_only(norm: InputNormalisation) -> InputNormalisation:
    """For transcoders: they write at another hook, whose units are not normalised."""
    return replace(
        norm, into=lambda x: (norm.into(x)[0], return_unchanged), per_token=False, out_scale=1.0
    )
