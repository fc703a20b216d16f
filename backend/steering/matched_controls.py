"""What an edit is compared with: other features that fire alike, moved as far.

Any direction changes what a model says, and a frequent feature does so more than a rare one. An
effect belongs to a feature only where it leaves the band of random active features matched to it.
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
"""Controls that a band wants."""
MATCHING_FACTORS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Tried in this order: how far apart two features alike may be in each of MATCHED."""
MATCHED_COLUMNS = ("density", "mean_act", "max_act", "decoder_norm")
"""Columns of a harvest's features. With the norm, equal activations are equal changes ‖Δh‖."""
NORM_SCALED_MODES = ("add", "clamp", "sparse_shift")
"""Modes whose strength is an activation: a control takes s·‖d‖ ÷ ‖its d‖, so that ‖Δh‖ is equal."""
UNSCALED_MODES = ("norm_relative", "orthogonal", "cap", "multiply", "zero")
"""Modes whose strength means the same for every feature."""
DIRECTION_MODES = ("add", "add_max", "clamp", "norm_relative")
"""Modes that push along a direction, and so have random directions for controls too."""


@dataclass(frozen=True)
class MatchedFeatures:
    """Random active features of the same dictionary, alike in every one of MATCHED."""

    feature: FeatureId
    controls: tuple[FeatureId, ...]
    factor: float
    """None of MATCHED differs by more than this factor."""
    candidates: int
    """Features within that factor, of which the controls were drawn."""

    @property
    def note(self) -> str:
        """What a page says of them."""
        said = (
            f"{len(self.controls)} random active features of {self.feature.dictionary}, within "
            f"{self.factor:g}× of {self.feature.index} in density, mean, maximum and decoder norm "
            f"({self.candidates:,} are)"
        )
        few = len(self.controls) < WANTED_CONTROLS
        return said + (f"; fewer than {WANTED_CONTROLS}, so the band is rough" if few else "")


def draw_matched_features(
    file: HarvestFile,
    feature: FeatureId,
    n: int = WANTED_CONTROLS,
    *,
    seed: int = 0,
    avoid: Collection[FeatureId] = (),
) -> MatchedFeatures:
    """Up to `n` controls, drawn at random among the features within the smallest of FACTORS that
    leaves enough of them. Never the feature itself, nor those to `avoid`.

    InputError for a feature that never fired, and where nothing is within the largest factor.
    """
    file.check(feature)
    table = file.rows(
        f"SELECT feature, {', '.join(f'abs({name}) AS {name}' for name in MATCHED_COLUMNS)} FROM "
        f"feature "
        "WHERE dictionary = ? AND n_active > 0 ORDER BY feature",
        [feature.dictionary],
    )
    ids = table["feature"].to_numpy()
    values = np.column_stack([table[name].to_numpy() for name in MATCHED_COLUMNS]).astype(float)
    at = np.flatnonzero(ids == feature.index)
    if not len(at):
        raise InputError(
            f"{feature} never fired in harvest {file.record.id}: no feature is active as it is."
        )
    left_out = {feature.index, *(f.index for f in avoid if f.dictionary == feature.dictionary)}
    kept = ~np.isin(ids, list(left_out))
    apart = np.full(len(ids), np.inf)
    apart[kept] = largest_column_factors(values[kept], values[at[0]])
    factor = next((f for f in MATCHING_FACTORS if (apart <= f).sum() >= n), MATCHING_FACTORS[-1])
    near = ids[apart <= factor]
    if not len(near):
        raise InputError(
            f"No active feature of {feature.dictionary} is within {MATCHING_FACTORS[-1]:g}× of "
            f"{feature} in "
            "density, mean, maximum and decoder norm: there is nothing to compare it with."
        )
    drawn = np.random.default_rng([seed, feature.index]).permutation(near)[:n]
    chosen = tuple(FeatureId(feature.dictionary, int(index)) for index in drawn)
    return MatchedFeatures(feature, chosen, factor, len(near))


def largest_column_factors(
    values: Float[np.ndarray, "n m"], to: Float[np.ndarray, "m"]
) -> Float[np.ndarray, "n"]:
    """The largest factor between two features in any of the columns, from 1 on."""
    tiny = np.finfo(float).tiny
    logs = np.log(np.maximum(values, tiny)) - np.log(np.maximum(to, tiny))
    return np.exp(np.abs(logs).max(axis=1))


def check_controllable(edit: Edit) -> None:
    """InputError for an edit that has no matched counterpart."""
    mode = MODES[edit.mode]
    if edit.vector is None and (
        mode.pair or edit.mode not in (*NORM_SCALED_MODES, *UNSCALED_MODES, "add_max", "mean")
    ):
        raise InputError(
            f"{edit.mode} has no matched controls: what it does depends on more than one feature's "
            f"own activation. With controls there are: "
            f"{', '.join([*NORM_SCALED_MODES, *UNSCALED_MODES])}, add_max, "
            "mean."
        )


def control_with_matched_features(
    edit: Edit, file: HarvestFile, n: int = WANTED_CONTROLS, *, seed: int = 0
) -> "EditControls":
    """`n` times the same edit of other features, as `matched_features` draws them.

    InputError for an edit of a vector, and for what `check_controllable` and that refuse.
    """
    check_controllable(edit)
    if edit.vector is not None:
        raise InputError(f"{edit.vector.name} is no feature: compare it with random directions.")
    found = [
        draw_matched_features(file, feature, n, seed=seed, avoid=edit.features)
        for feature in edit.features
    ]
    size = min(len(one.controls) for one in found)
    drawn = [[one.controls[i] for one in found] for i in range(size)]
    moved = [_move_edit_to_features(edit, features, file) for features in drawn]
    return EditControls("features", tuple(moved), tuple(one.note for one in found))


def control_with_random_directions(
    edit: Edit, directions: Sequence[SteeringVector], file: HarvestFile
) -> "EditControls":
    """The edit's push along other directions, of length 1 each; InputError for a mode that does not
    push."""
    if edit.mode not in DIRECTION_MODES:
        raise InputError(
            f"{edit.mode} acts on what a feature does already, so a random direction is no control "
            f"of it: compare matched features, or choose one of {', '.join(DIRECTION_MODES)}."
        )
    length = _push_length(edit, file)
    moved = []
    for one in directions:
        values = tuple(value * length for value in one.values)
        mode = "norm_relative" if edit.mode == "norm_relative" else "add"
        vector = replace(one, values=values)
        other = replace(edit, mode=mode, features=(), vector=vector, basis=EditBasis())
        moved.append(((other, 1.0),))
    note = f"{len(moved)} random directions: normalised differences of two real activations"
    return EditControls("directions", tuple(moved), (note,))


ControlEdits = tuple[tuple[Edit, float], ...]
"""One control: an edit for each feature of the original, and what a strength of the original is
multiplied by so that it moves the stream as far."""


@dataclass(frozen=True)
class EditControls:
    """Counterparts of one edit."""

    kind: Literal["features", "directions"]
    counterparts: tuple[ControlEdits, ...]
    notes: tuple[str, ...]

    def at(self, number: int, strength: float) -> tuple[Edit, ...]:
        """One control's edits, as strong as the original at `strength`."""
        return tuple(
            replace(edit, strength=strength * times) for edit, times in self.counterparts[number]
        )


def _move_edit_to_features(
    edit: Edit, features: Sequence[FeatureId], file: HarvestFile
) -> ControlEdits:
    found = []
    for number, (own, other) in enumerate(zip(edit.features, features, strict=True)):
        longer = _decoder_norm(file, own) / _decoder_norm(file, other)
        basis = edit.basis
        if edit.mode == "add_max":
            basis = EditBasis(values=(edit.basis.values[number] * longer,), source="equal length")
        if edit.mode == "mean":
            basis = EditBasis(values=(file.facts(other).mean_all or 0.0,), source=edit.basis.source)
        times = longer if edit.mode in NORM_SCALED_MODES else 1.0
        found.append((replace(edit, features=(other,), basis=basis), times))
    return tuple(found)


def _push_length(edit: Edit, file: HarvestFile) -> float:
    """How far one unit of strength pushes, in the stream's own units."""
    if edit.vector is not None:
        return float(np.linalg.norm(edit.vector.values))
    if edit.mode == "norm_relative":
        return 1.0
    norms = [_decoder_norm(file, feature) for feature in edit.features]
    if edit.mode == "add_max":
        norms = [n * value for n, value in zip(norms, edit.basis.values, strict=True)]
    # Directions of several features are close to orthogonal: the length of their sum.
    return float(np.linalg.norm(norms))


def _decoder_norm(file: HarvestFile, feature: FeatureId) -> float:
    found = file.facts(feature).decoder_norm
    if not found:
        raise InputError(f"{feature} writes nothing: its decoder direction has no length.")
    return float(found)


def control_band(values: Sequence[float]) -> tuple[float, float] | None:
    """2.5th and 97.5th percentile over controls; None of fewer than two."""
    found = np.asarray([value for value in values if np.isfinite(value)])
    if len(found) < 2:
        return None
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
