"""Controls of a steering edit: the same edit of matched random features, or along random directions
of equal length.

Any direction changes what a model writes, and a frequent feature does so more than a rare one. An
effect is due to a feature only if it leaves the band of random active features that match the
feature in density, activation and decoder norm.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from backend.interventions.edit_modes import MODES
from backend.interventions.records import Edit, EditBasis, SteeringVector
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId

WANTED_CONTROLS = 30
"""Number of matched control features below which a control band is called rough."""
MATCHING_FACTORS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Factors tried in this order: how far a matched control may differ from the feature in each of
MATCHED_COLUMNS."""
MATCHED_COLUMNS = ("density", "mean_act", "max_act", "decoder_norm")
"""Columns of a harvest's feature table in which controls match the feature. With equal decoder
norms, equal activations are equal changes ‖Δh‖."""
NORM_SCALED_MODES = ("add", "clamp", "sparse_shift")
"""Edit modes whose strength is an activation: a control's strength is scaled by the ratio of
decoder norms, so that ‖Δh‖ is equal."""
UNSCALED_MODES = ("norm_relative", "orthogonal", "cap", "multiply", "zero")
"""Edit modes whose strength means the same for every feature, so that a matched control takes it
unchanged."""
DIRECTION_MODES = ("add", "add_max", "clamp", "norm_relative")
"""Edit modes that push along a direction, for which random directions are controls too."""


@dataclass(frozen=True)
class MatchedFeatures:
    """Matched control features: random active features of the same dictionary that are close to a
    feature in every one of MATCHED_COLUMNS."""

    feature: FeatureId
    controls: tuple[FeatureId, ...]
    factor: float
    """Largest factor by which a matched feature differs from the feature in any of
    MATCHED_COLUMNS."""
    candidates: int
    """Number of features within the matching factor, from which the controls were drawn."""

    @property
    def note(self) -> str:
        """Sentence for the page: how many matched control features were drawn, and how closely they
        match."""
        sentence = (
            f"{len(self.controls)} random active features of {self.feature.dictionary}, within "
            f"{self.factor:g}× of {self.feature.index} in density, mean, maximum and decoder norm "
            f"({self.candidates:,} are)"
        )
        too_few = len(self.controls) < WANTED_CONTROLS
        return sentence + (
            f"; fewer than {WANTED_CONTROLS}, so the control band is rough" if too_few else ""
        )


def draw_matched_features(
    file: HarvestFile,
    feature: FeatureId,
    n: int = WANTED_CONTROLS,
    *,
    seed: int = 0,
    avoid: Collection[FeatureId] = (),
) -> MatchedFeatures:
    """Draw up to `n` matched control features at random, within the smallest of MATCHING_FACTORS
    that leaves `n` candidates.

    The feature itself and those in `avoid` are never drawn. Raise InputError for a feature that
    never fired in the harvest, and when no feature is within the largest factor.
    """
    file.check_feature(feature)
    table = file.rows(
        f"SELECT feature, {', '.join(f'abs({name}) AS {name}' for name in MATCHED_COLUMNS)} FROM "
        f"feature "
        "WHERE dictionary = ? AND n_active > 0 ORDER BY feature",
        [feature.dictionary],
    )
    features = table["feature"].to_numpy()
    values = np.column_stack([table[name].to_numpy() for name in MATCHED_COLUMNS]).astype(float)
    own_row = np.flatnonzero(features == feature.index)
    if not len(own_row):
        raise InputError(
            f"{feature} never fired in harvest {file.record.id}: so no features "
            "can be matched to it."
        )
    excluded = {feature.index, *(f.index for f in avoid if f.dictionary == feature.dictionary)}
    allowed = ~np.isin(features, list(excluded))
    factors = np.full(len(features), np.inf)
    factors[allowed] = largest_column_factors(values[allowed], values[own_row[0]])
    factor = next((f for f in MATCHING_FACTORS if (factors <= f).sum() >= n), MATCHING_FACTORS[-1])
    candidates = features[factors <= factor]
    if not len(candidates):
        raise InputError(
            f"No active feature of {feature.dictionary} is within {MATCHING_FACTORS[-1]:g}× of "
            f"{feature} in "
            "density, mean, maximum and decoder norm: it has no matched controls."
        )
    indices = np.random.default_rng([seed, feature.index]).permutation(candidates)[:n]
    controls = tuple(FeatureId(feature.dictionary, int(index)) for index in indices)
    return MatchedFeatures(feature, controls, factor, len(candidates))


def largest_column_factors(
    values: Float[np.ndarray, "n m"], to: Float[np.ndarray, "m"]
) -> Float[np.ndarray, "n"]:
    """Return for each feature the largest factor (≥ 1) between its matched columns and those of the
    feature to control."""
    tiny = np.finfo(float).tiny
    logs = np.log(np.maximum(values, tiny)) - np.log(np.maximum(to, tiny))
    return np.exp(np.abs(logs).max(axis=1))


def check_controllable(edit: Edit) -> None:
    """Raise InputError for an edit without matched control features: one whose effect depends on
    more than a feature's own activation."""
    mode = MODES[edit.mode]
    if edit.vector is None and (
        mode.pair or edit.mode not in (*NORM_SCALED_MODES, *UNSCALED_MODES, "add_max", "mean")
    ):
        raise InputError(
            f"{edit.mode} has no matched controls: its effect depends on more than one feature's "
            "own activation. Modes with matched controls: "
            f"{', '.join([*NORM_SCALED_MODES, *UNSCALED_MODES])}, add_max, mean."
        )


def control_with_matched_features(
    edit: Edit, file: HarvestFile, n: int = WANTED_CONTROLS, *, seed: int = 0
) -> "EditControls":
    """Build up to `n` controls of an edit: the same edit of matched random features instead of its
    own.

    Raise InputError for an edit of a vector, and as `check_controllable` and
    `draw_matched_features` do.
    """
    check_controllable(edit)
    if edit.vector is not None:
        raise InputError(f"{edit.vector.name} is not a feature: use random directions as controls.")
    matches = [
        draw_matched_features(file, feature, n, seed=seed, avoid=edit.features)
        for feature in edit.features
    ]
    n_controls = min(len(one.controls) for one in matches)
    control_sets = [[one.controls[i] for one in matches] for i in range(n_controls)]
    counterparts = [_move_edit_to_features(edit, features, file) for features in control_sets]
    return EditControls("features", tuple(counterparts), tuple(one.note for one in matches))


def control_with_random_directions(
    edit: Edit, directions: Sequence[SteeringVector], file: HarvestFile
) -> "EditControls":
    """Build controls of an edit that push equally far along random directions of length 1.

    Raise InputError for an edit mode that does not push along a direction.
    """
    if edit.mode not in DIRECTION_MODES:
        raise InputError(
            f"{edit.mode} changes activations that a feature already has, so a random direction "
            "cannot be its control: use matched features, or a mode among "
            f"{', '.join(DIRECTION_MODES)}."
        )
    length = _push_length(edit, file)
    counterparts = []
    for direction in directions:
        values = tuple(value * length for value in direction.values)
        mode = "norm_relative" if edit.mode == "norm_relative" else "add"
        vector = replace(direction, values=values)
        control = replace(edit, mode=mode, features=(), vector=vector, basis=EditBasis())
        counterparts.append(((control, 1.0),))
    note = f"{len(counterparts)} random directions: normalised differences of two real activations"
    return EditControls("directions", tuple(counterparts), (note,))


ControlEdits = tuple[tuple[Edit, float], ...]
"""One control of an edit: for each edited feature, the edit of its control and the factor by which
a strength is multiplied so that ‖Δh‖ is equal."""


@dataclass(frozen=True)
class EditControls:
    """Controls of one steering edit: edits of matched features or along random directions."""

    kind: Literal["features", "directions"]
    counterparts: tuple[ControlEdits, ...]
    notes: tuple[str, ...]

    def edits_at(self, number: int, strength: float) -> tuple[Edit, ...]:
        """Return the edits of control `number`, scaled to match the original edit at `strength`."""
        return tuple(
            replace(edit, strength=strength * times) for edit, times in self.counterparts[number]
        )


def _move_edit_to_features(
    edit: Edit, features: Sequence[FeatureId], file: HarvestFile
) -> ControlEdits:
    moved = []
    for number, (own, other) in enumerate(zip(edit.features, features, strict=True)):
        norm_ratio = _decoder_norm(file, own) / _decoder_norm(file, other)
        basis = edit.basis
        if edit.mode == "add_max":
            basis = EditBasis(
                values=(edit.basis.values[number] * norm_ratio,), source="equal length"
            )
        if edit.mode == "mean":
            basis = EditBasis(values=(file.facts(other).mean_all or 0.0,), source=edit.basis.source)
        factor = norm_ratio if edit.mode in NORM_SCALED_MODES else 1.0
        moved.append((replace(edit, features=(other,), basis=basis), factor))
    return tuple(moved)


def _push_length(edit: Edit, file: HarvestFile) -> float:
    """Return how far one unit of an edit's strength pushes, in units of the hook point, so that a
    random direction pushes equally far."""
    if edit.vector is not None:
        return float(np.linalg.norm(edit.vector.values))
    if edit.mode == "norm_relative":
        return 1.0
    norms = [_decoder_norm(file, feature) for feature in edit.features]
    if edit.mode == "add_max":
        norms = [n * value for n, value in zip(norms, edit.basis.values, strict=True)]
    # Decoder directions are close to orthogonal, so the length of their sum is the norm of norms.
    return float(np.linalg.norm(norms))


def _decoder_norm(file: HarvestFile, feature: FeatureId) -> float:
    found = file.facts(feature).decoder_norm
    if not found:
        raise InputError(f"{feature} has no controls: the length of its decoder direction is zero.")
    return float(found)


def control_band(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 2.5th and the 97.5th percentile of an effect over the controls; None with fewer
    than two finite values."""
    finite = np.asarray([value for value in values if np.isfinite(value)])
    if len(finite) < 2:
        return None
    low, high = np.quantile(finite, [0.025, 0.975])
    return float(low), float(high)
