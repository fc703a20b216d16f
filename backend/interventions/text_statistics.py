"""Reference values of edits that are measured on texts: a feature's activations on another prompt
(`resample`), and its distribution with and without a concept (`attenuate`)."""

from collections.abc import Sequence

import numpy as np
import torch

from backend.engine_protocol import Engine
from backend.interventions.concept_posterior import fit_concept_posteriors
from backend.interventions.records import EditBasis
from feature_store.errors import InputError
from feature_store.records import FeatureId


def read_resample_basis(engine: Engine, features: Sequence[FeatureId], text: str) -> EditBasis:
    """Return the reference values of `resample` edits: the features' activations at each position
    of another prompt, BOS first."""
    values, _ = _read_activations(engine, features, text)
    slots = tuple(tuple(column) for column in values.T.tolist())
    return EditBasis(slots=slots, source=f"another prompt, {len(values)} tokens")


def fit_attenuation_basis(
    engine: Engine, features: Sequence[FeatureId], bearing: Sequence[str], others: Sequence[str]
) -> EditBasis:
    """Return the reference values of `attenuate` edits: the features' firing rates and activation
    densities on counted tokens of texts with a concept and of texts without. InputError where one
    side has no texts."""
    if not bearing or not others:
        raise InputError("Give texts with the concept and texts without it, one a line.")
    parts, marks = [], []
    for side, texts in ((True, bearing), (False, others)):
        for text in texts:
            values, counted = _read_activations(engine, features, text)
            parts.append(values[counted])
            marks += [side] * int(counted.sum())
    whole = torch.from_numpy(np.concatenate(parts))
    fitted = fit_concept_posteriors(whole, torch.tensor(marks))
    n = sum(marks)
    source = f"{len(bearing)} texts with the concept ({n} tokens), {len(others)} without"
    return EditBasis(posterior=fitted, source=f"{source} ({len(marks) - n} tokens)")


def _read_activations(
    engine: Engine, features: Sequence[FeatureId], text: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the features' activations on a text [pos feature], and which positions count."""
    read = engine.read(text)
    names = list(dict.fromkeys(feature.dictionary for feature in features))
    firing = engine.compute_activations(read, names)
    values = np.zeros((len(read.token_ids), len(features)))
    for column, feature in enumerate(features):
        for position, value in firing[feature.dictionary].by_position(feature.index).items():
            values[position, column] = value
    return values, np.array(read.counted)
