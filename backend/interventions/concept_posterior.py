"""Posterior probability of a concept given a feature's activation, fitted for attenuating edits.

For each feature, tokens with the concept and tokens without it give a firing rate and a normal
density of the non-zero activations. Bayes' rule then gives the probability of the concept, given an
activation. Zero activations need no probability, since attenuating them changes nothing.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backend.interventions.records import ConceptPosterior
from feature_store.errors import InputError

LEAST_FIRING = 5
"""Number of firing tokens that a class needs for its own density; below it, both
classes share one."""


def fit_concept_posteriors(
    f: Float[Tensor, "n k"], concept: Bool[Tensor, "n"]
) -> tuple[ConceptPosterior, ...]:
    """Fit, for each of k features, the posterior probability of a concept given the feature's
    activation, from activations [n, k] on n tokens; `concept` marks the tokens that bear it.

    Fit on the training half of the documents and evaluate on the other half. InputError when one of
    the classes is empty.
    """
    n_in = int(concept.sum())
    if not 0 < n_in < len(f):
        raise InputError(
            f"{n_in} of {len(f)} tokens have the concept: give texts with it and texts without it."
        )
    f = f.double()
    return tuple(_fit_one_feature(column[concept], column[~concept]) for column in f.unbind(1))


def _fit_one_feature(inside: Tensor, outside: Tensor) -> ConceptPosterior:
    """Fit one feature's concept posterior from its activations on tokens with the concept
    (`inside`) and without it (`outside`)."""
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
    """Return the share of tokens on which a feature fires, for its concept posterior; smoothed, so
    that it is never 0 or 1."""
    return (float((f != 0).sum()) + 0.5) / (len(f) + 1)


def _moments(f: Tensor, otherwise: tuple[float, float]) -> tuple[float, float]:
    """Return the mean and standard deviation of a feature's non-zero activations, for its concept
    posterior; `otherwise` where it fires on too few tokens."""
    fired = f[f != 0]
    if len(fired) < LEAST_FIRING or float(fired.std()) == 0:
        return otherwise
    return float(fired.mean()), float(fired.std())
