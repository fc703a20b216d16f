"""The strength that a judge likes best, picked on one half of a sweep and reported on the other.

Whatever is best of many on the same texts looks better than it is; the other half does not know
which was picked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from backend.steering.sweep_results import (
    MeasuredText,
    MeasureEstimate,
    StrengthTexts,
    SweepOutcome,
)

HalvedBy = Literal["prompts", "seeds"]


@dataclass(frozen=True)
class BestStrength:
    """One strength, and what it came to where it was not picked."""

    strength: float
    halves: HalvedBy
    """What the texts were halved by: prompts, or seeds where there is one prompt, which says
    nothing of other prompts."""
    here: MeasureEstimate
    """On the half that it was picked on: flattering."""
    there: MeasureEstimate | None
    """On the other half; None where no text of it was judged."""
    unedited: MeasureEstimate | None
    """The texts without the edit, on that other half."""


def pick_best_strength(outcome: SweepOutcome, measure: str) -> BestStrength | None:
    """The strength with the largest mean of `measure` over every second prompt (the first, the
    third…); among equals the smallest. None where no text of that half has it, or nothing can be
    halved."""
    every = [one for dose in (outcome.default, *outcome.doses) for one in dose.heard]
    halves: HalvedBy = "prompts" if len({one.prompt for one in every}) > 1 else "seeds"
    units = sorted({_halving_unit(one, halves) for one in every})
    if len(units) < 2:
        return None
    first = set(units[::2])
    mine = [(dose, _select_half(dose, halves, first, inside=True)) for dose in outcome.doses]
    known = [(dose, e) for dose, half in mine if (e := half.estimate(measure)) is not None]
    if not known:
        return None
    best, here = max(known, key=lambda pair: (pair[1].value, -abs(pair[0].strength)))
    other = _select_half(best, halves, first, inside=False)
    plain = _select_half(outcome.default, halves, first, inside=False)
    return BestStrength(
        best.strength, halves, here, other.estimate(measure), plain.estimate(measure)
    )


def estimate_other_half(
    outcome: SweepOutcome, picked: BestStrength, measures: Sequence[str]
) -> list[MeasureEstimate | None]:
    """Further measures of the picked strength, where it was not picked."""
    units = sorted({_halving_unit(one, picked.halves) for one in outcome.default.heard})
    (dose,) = [one for one in outcome.doses if one.strength == picked.strength]
    half = _select_half(dose, picked.halves, set(units[::2]), inside=False)
    return [half.estimate(name) for name in measures]


def _halving_unit(one: MeasuredText, halves: HalvedBy) -> int:
    return one.prompt if halves == "prompts" else one.seed


def _select_half(
    dose: StrengthTexts, halves: HalvedBy, first: set[int], *, inside: bool
) -> StrengthTexts:
    kept = (one for one in dose.heard if (_halving_unit(one, halves) in first) == inside)
    return StrengthTexts(dose.strength, tuple(kept))
