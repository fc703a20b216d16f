"""How much a feature's activation says about a concept: attenuation by posterior probability.

For each feature, tokens with the concept and tokens without it give a firing rate and a normal
density of the activations that are not zero; Bayes' rule then says how likely the concept is, given
an activation. Nothing is said about zeros, since attenuating them changes nothing.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backend.interventions.records import Posterior
from feature_store.errors import InputError

LEAST = 5
"""Firing tokens that a class needs for a density of its own; below, both share one."""


def fit(f: Float[Tensor, "n k"], concept: Bool[Tensor, "n"]) -> tuple[Posterior, ...]:
    """Densities of k features from n tokens, of which some bear the concept.

    Fit on the half of the documents that is for training, and judge on the other. InputError when
    one of the classes is empty.
    """
    n_in = int(concept.sum())
    if not 0 < n_in < len(f):
        raise InputError(
            f"{n_in} of {len(f)} tokens bear the concept: give texts with it and texts without."
        )
    f = f.double()
    return tuple(_one(column[concept], column[~concept]) for column in f.unbind(1))


def _one(inside: Tensor, outside: Tensor) -> Posterior:
    both = torch.cat([inside, outside])
    shared = _moments(both, (0.0, 1.0))
    mean_in, sd_in = _moments(inside, shared)
    mean_out, sd_out = _moments(outside, shared)
    return Posterior(
        prior=len(inside) / len(both),
        rate_in=_rate(inside),
        mean_in=mean_in,
        sd_in=sd_in,
        rate_out=_rate(outside),
        mean_out=mean_out,
        sd_out=sd_out,
    )


def _rate(f: Tensor) -> float:
    """Share that fires, half a token added so that none is impossible."""
    return (float((f != 0).sum()) + 0.5) / (len(f) + 1)


def _moments(f: Tensor, otherwise: tuple[float, float]) -> tuple[float, float]:
    """Mean and standard deviation of what fires."""
    fired = f[f != 0]
    if len(fired) < LEAST or float(fired.std()) == 0:
        return otherwise
    return float(fired.mean()), float(fired.std())
