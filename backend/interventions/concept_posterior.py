"""How much a feature's activation says about a concept: attenuation by posterior probability.

For each feature, tokens with the concept and tokens without it give a firing rate and a normal
density of the activations that are not zero; Bayes' rule then says how likely the concept is, given
an activation. Nothing is said about zeros, since attenuating them changes nothing.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backend.interventions.records import ConceptPosterior
from feature_store.errors import InputError

LEAST_FIRING = 5
"""Firing tokens that a class needs for a density of its own; below, both share one."""


def fit_concept_posteriors(
    f: Float[Tensor, "n k"], concept: Bool[Tensor, "n"]
) -> tuple[ConceptPosterior, ...]:
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
    return tuple(_fit_one_feature(column[concept], column[~concept]) for column in f.unbind(1))


def _fit_one_feature(inside: Tensor, outside: Tensor) -> ConceptPosterior:
    both = torch.cat([inside, outside])
    shared = _moments(both, (0.0, 1.0))
    mean_in, sd_in = _moments(inside, shared)
    mean_out, sd_out = _moments(outside, shared)
    return ConceptPosterior(
        prior=len(inside) / len(both),
        rate_in=_firing_rate(inside),
        mean_in=mean_in,
        sd_in=sd_in,
        rate_out=_firing_rate(outside),
        mean_out=mean_out,
        sd_out=sd_out,
    )


def _firing_rate(f: Tensor) -> float:
    """Share that fires, half a token added so that none is impossible."""
    return (float((f != 0).sum()) + 0.5) / (len(f) + 1)


def _moments(f: Tensor, otherwise: tuple[float, float]) -> tuple[float, float]:
    """Mean and standard deviation of what fires."""
    fired = f[f != 0]
    if len(fired) < LEAST_FIRING or float(fired.std()) == 0:
        return otherwise
    return float(fired.mean()), float(fired.std())
