"""Normalisations of a dictionary's input activations, and their inverses, with the formulas of
sae-lens.

Each function returns the normalised activations and the inverse for these tokens. Scale and mean
are local to the call and never kept in an object, so two threads cannot mix them up.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

Undo = Callable[[Tensor], Tensor]

EPS = 1e-5
"""Constant of sae-lens' layer normalisation, which divides by std + EPS on input and multiplies by
std alone on output."""


def return_unchanged(x: Tensor) -> Tensor:
    """Return the activations x unchanged: the inverse of an input normalisation that does
    nothing."""
    return x


@dataclass(frozen=True)
class InputNormalisation:
    """A normalisation of a dictionary's input activations, with its inverse."""

    into: Callable[[Tensor], tuple[Tensor, Undo]]
    """Function x -> (z, inverse); the inverse maps a reconstruction of z back to the units of x."""
    per_token: bool = False
    """Whether the scale of the inverse differs from token to token."""
    out_scale: float = 1.0
    """Factor by which the inverse multiplies decoder directions, where it is the same for every
    token."""


def _normalise_layer(x: Float[Tensor, "... d"]) -> tuple[Float[Tensor, "... d"], Undo]:
    """Normalise each token's input activation to mean 0 and standard deviation 1 (layer norm).
    Returns it with the function that undoes this for a reconstruction."""
    mean = x.mean(dim=-1, keepdim=True)
    centred = x - mean
    std = centred.std(dim=-1, keepdim=True)
    return centred / (std + EPS), lambda y: y * std + mean


def _normalise_length(x: Float[Tensor, "... d"]) -> tuple[Float[Tensor, "... d"], Undo]:
    """Scale each token's input activation of width d to the norm √d. Returns it with the function
    that undoes this for a reconstruction."""
    scale = x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True)
    return x * scale, lambda y: y / scale


NO_NORMALISATION = InputNormalisation(lambda x: (x, return_unchanged))

NORMALISATIONS = {
    "none": NO_NORMALISATION,
    "layer_norm": InputNormalisation(_normalise_layer, per_token=True),
    "constant_norm_rescale": InputNormalisation(_normalise_length, per_token=True),
}


def scale_by_constant(factor: float) -> InputNormalisation:
    """Return the normalisation that multiplies every input activation by `factor`; the inverse
    divides by it."""
    return InputNormalisation(lambda x: (x * factor, lambda y: y / factor), out_scale=1 / factor)


def normalise_input_only(norm: InputNormalisation) -> InputNormalisation:
    """Return a normalisation for transcoders, whose output hook point is not normalised: its
    inverse changes nothing."""
    return replace(
        norm, into=lambda x: (norm.into(x)[0], return_unchanged), per_token=False, out_scale=1.0
    )
