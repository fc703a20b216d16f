"""Checks of edits before anything runs: every mistake in an edit gives an InputError of one
sentence."""

import math
from collections.abc import Mapping, Sequence

from backend.dictionaries.base import Dictionary
from backend.evaluation import reconstruction_check
from backend.interventions.edit_masks import compile_pattern
from backend.interventions.edit_modes import MODES, EditMode
from backend.interventions.records import Edit, EditCondition, FrozenLayers
from backend.model.language_model import LanguageModel
from backend.model.weight_processing import WeightProcessing, require_same_processing
from feature_store.errors import InputError, pick_by_name
from feature_store.records import FeatureId

MOST_FEATURES = 64
"""Maximum number of features in the edits of one row. A larger set can be given as one steering
vector."""


def check_row_edits(
    lm: LanguageModel, dictionaries: Mapping[str, Dictionary], edits: Sequence[Edit]
) -> None:
    """Raise InputError where the edits of one row are impossible for this model and these
    dictionaries."""
    for edit in edits:
        _check_edit(lm, dictionaries, edit)
    n = sum(len(edit.features) for edit in edits)
    if n > MOST_FEATURES:
        raise InputError(
            f"{n} features in one row are too many: at most {MOST_FEATURES}. Sum their "
            "directions into one steering vector, or choose fewer."
        )
    _check_twice(edits)


def agreed_processing(dictionaries: Mapping[str, Dictionary], names: set[str]) -> WeightProcessing:
    """Return the one weight processing of the model that these dictionaries require; InputError
    where they require two."""
    return require_same_processing({name: dictionaries[name].processing for name in sorted(names)})


def check_freeze(lm: LanguageModel, freeze: FrozenLayers) -> None:
    """Raise InputError where layers to be frozen during an edit do not exist in the model."""
    for what in ("patterns", "norms", "mlps"):
        chosen = getattr(freeze, what)
        if chosen is not None and not 0 <= chosen[0] <= chosen[1] < lm.n_layers:
            raise InputError(
                f"Layers {chosen[0]} to {chosen[1]} cannot be frozen: {lm.name} has layers 0 to "
                f"{lm.n_layers - 1}."
            )


def _check_edit(lm: LanguageModel, dictionaries: Mapping[str, Dictionary], edit: Edit) -> None:
    """Check one edit: its mode, numbers, features or vector, and condition."""
    mode = pick_by_name("mode", edit.mode, MODES)
    _check_numbers(edit)
    if edit.vector is None:
        _check_features(lm, dictionaries, edit, mode)
    else:
        _check_vector(lm, edit, mode)
    _check_where(lm, dictionaries, edit.where)


def _check_numbers(edit: Edit) -> None:
    """Check that an edit's strength, percentage and schedule are valid numbers."""
    if not math.isfinite(edit.strength):
        raise InputError(f"The strength is {edit.strength}: write a finite number.")
    if not 0 < edit.percent <= 100:
        raise InputError(
            f"{edit.percent:g} is not a percentage of a direction: write more than 0, up to 100."
        )
    if edit.when.n < 1:
        raise InputError(f"The n of a schedule is {edit.when.n}: write a whole number from 1 on.")


def _check_features(
    lm: LanguageModel, dictionaries: Mapping[str, Dictionary], edit: Edit, mode: EditMode
) -> None:
    """Check that an edit's features exist, belong to one dictionary, and suit the mode."""
    names = {feature.dictionary for feature in edit.features}
    if len(names) != 1:
        raise InputError(
            f"An edit takes features of one dictionary, and {edit.mode} was given "
            f"{', '.join(sorted(names)) or 'none'}: make one edit for each dictionary."
        )
    for feature in edit.features:
        check_feature(lm, dictionaries, feature)
    if len(set(edit.features)) < len(edit.features):
        raise InputError("An edit names a feature twice: name it once.")
    if mode.pair and len(edit.features) != 2:
        raise InputError(f"{edit.mode} takes two features, not {len(edit.features)}.")
    _check_basis(edit, mode)


def check_feature(
    lm: LanguageModel, dictionaries: Mapping[str, Dictionary], feature: FeatureId
) -> None:
    """Raise InputError for an edited feature that does not exist, or whose dictionary does not fit
    the model."""
    one = pick_by_name("dictionary", feature.dictionary, dictionaries)
    if feature.index >= one.d_sae:
        raise InputError(
            f"{feature.dictionary} has features 0 to {one.d_sae - 1}, no {feature.index}."
        )
    reconstruction_check.check_dictionary_fits(lm, one)


def _check_basis(edit: Edit, mode: EditMode) -> None:
    """Check that an edit brings the reference values that its mode needs (such as maxima or means),
    one per feature."""
    if not mode.basis:
        return
    basis, n = edit.basis, len(edit.features)
    given = {
        "max": len(basis.values),
        "mean": max(len(basis.values), len(basis.slots)),
        "slots": len(basis.slots),
        "posterior": len(basis.posterior),
    }[mode.basis]
    wants = {
        "max": "the features' maxima (basis.values)",
        "mean": "the features' means (basis.values, or basis.slots by position)",
        "slots": "values by position (basis.slots)",
        "posterior": "fitted densities (basis.posterior)",
    }[mode.basis]
    if given != n:
        raise InputError(f"{edit.mode} needs {wants}: {n} of them, and there are {given}.")
    if not all(map(math.isfinite, [*basis.values, *(v for slot in basis.slots for v in slot)])):
        raise InputError(
            f"The reference values of {edit.mode} contain numbers that are not finite."
        )


def _check_vector(lm: LanguageModel, edit: Edit, mode: EditMode) -> None:
    """Check that a steering vector suits the mode and has the width of its hook point."""
    assert edit.vector is not None
    if edit.features:
        raise InputError("An edit has either features or a vector, not both.")
    if not mode.takes_vector or mode.pair:
        fitting = [name for name, one in MODES.items() if one.takes_vector and not one.pair]
        raise InputError(
            f"{edit.mode} needs features. Modes for a vector are: {', '.join(fitting)}."
        )
    width, hook = lm.width(edit.vector.hook), edit.vector.hook
    if len(edit.vector.values) != width:
        raise InputError(
            f"The vector {edit.vector.name!r} has {len(edit.vector.values)} values; {hook} of "
            f"{lm.name} has {width}."
        )
    if not all(map(math.isfinite, edit.vector.values)) or not any(edit.vector.values):
        raise InputError(
            f"The vector {edit.vector.name!r} is zero or not finite, so it has no direction."
        )


def _check_where(
    lm: LanguageModel, dictionaries: Mapping[str, Dictionary], where: EditCondition
) -> None:
    """Check the condition of an edit: its pattern, gate feature and positions."""
    if where.pattern is not None:
        compile_pattern(where.pattern)
    if where.gate is not None:
        check_feature(lm, dictionaries, where.gate)
    if where.positions is not None and any(position < 0 for position in where.positions):
        raise InputError("Positions count from 0, the first token that the model reads.")


def _check_twice(edits: Sequence[Edit]) -> None:
    """Raise InputError where two edits of one feature can act at the same token, which would have
    no defined result."""
    seen: dict[FeatureId, list[Edit]] = {}
    for edit in edits:
        for feature in edit.features:
            for other in seen.setdefault(feature, []):
                if not _never_meet(edit.where, other.where):
                    raise InputError(
                        f"Two edits of {feature} could act at the same token: remove one, or limit "
                        "one to the prompt and the other to generated tokens."
                    )
            seen[feature].append(edit)


def _never_meet(a: EditCondition, b: EditCondition) -> bool:
    """Return whether two edit conditions can never hold at one token."""
    if {a.parts, b.parts} == {"prompt", "generated"}:
        return True
    if a.positions is not None and b.positions is not None:
        return not set(a.positions) & set(b.positions)
    if a.roles is not None and b.roles is not None:
        return not set(a.roles) & set(b.roles)
    return False
