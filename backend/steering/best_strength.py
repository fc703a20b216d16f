"""The best strength of a sweep by a judge's score: picked on one half of the texts and evaluated on
the other.

The best of many strengths on the same texts looks better than it is; the other half is not affected
by the choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from backend.steering.sweep_results import (
    MeasuredText,
    StrengthTexts,
    SweepOutcome,
)
from feature_store.statistics.estimate import Estimate

HalvedBy = Literal["prompts", "seeds"]


@dataclass(frozen=True)
class BestStrength:
    """Steering strength picked on one half of a sweep's texts, and the estimates of the measure at
    this strength on both halves."""

    strength: float
    halves: HalvedBy
    """How the texts were halved: by prompts, or by seeds if there is only one prompt, which says
    nothing about other prompts.
    """
    here: Estimate
    """Estimate on the half on which the strength was picked, which is biased upward."""
    there: Estimate | None
    """Estimate on the other half; None if none of its texts was judged."""
    unedited: Estimate | None
    """Estimate for the texts without the edit, on the other half."""


def pick_best_strength(outcome: SweepOutcome, measure: str) -> BestStrength | None:
    """Pick the strength with the largest mean of `measure` on every second prompt (first, third,
    …); among equal means the smallest strength.

    None if no text of that half has the measure, or the texts cannot be halved.
    """
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
) -> list[Estimate | None]:
    """Estimate further measures of the texts at the best strength, on the half of the texts on
    which it was not picked."""
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
