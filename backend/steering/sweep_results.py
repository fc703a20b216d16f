"""Results of a strength sweep: the measures of every continuation, their means with intervals by
strength, and the bands of the controls.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from backend.steering.matched_controls import control_band
from feature_store.statistics.bootstrap_t import estimate_mean
from feature_store.statistics.estimate import Estimate
from feature_store.statistics.proportion_intervals import estimate_share

SHARE_MEASURES = ("match",)
"""Measures that are 0 or 1 for each text."""
SWEEP_MEASURES = {
    "max": "largest activation of the feature in the text, read by the clean model",
    "mean": "mean activation of the feature over the text, read by the clean model",
    "rate": "share of the text's tokens on which the feature fires in the clean model",
    "nearest": "mean activation of the feature's nearest by decoder, read by the clean model",
    "match": "share of texts in which the pattern is found",
    "judge": "harmonic mean of the judge's ratings of concept, instruction and fluency, 0 to 2",
    "judge_concept": "the judge's rating of the concept in a text, 0 to 2",
    "judge_instruction": "the judge's rating of how it goes with the prompt, 0 to 2",
    "judge_fluency": "the judge's rating of its fluency, 0 to 2",
    "nll": "nats per token under the clean model, given the prompt; perplexity is its exponential",
    "kl": "KL(clean ‖ steered) of the next token, mean over the text's tokens, nats",
    "shift": "‖Δh‖ ÷ ‖h‖ where the edit acts, mean over the text's tokens",
    "repetition": "share of the last 60 tokens' trigrams that are there already",
}
"""Names and descriptions of the measures of a sweep's texts."""


@dataclass(frozen=True)
class MeasuredText:
    """One text that a sweep has generated, with its measures."""

    prompt: int
    seed: int
    text: str
    tokens: int
    values: Mapping[str, float]
    """Values by measure name; measures that are unavailable are missing."""


@dataclass(frozen=True)
class StrengthTexts:
    """All texts that a strength sweep has generated at one strength, with their measures."""

    strength: float
    heard: tuple[MeasuredText, ...]

    def estimate(self, measure: str) -> Estimate | None:
        """Estimate a measure's mean over a sweep's continuations at this strength; None if no text
        has it.
        """
        mine = [one for one in self.heard if measure in one.values]
        if not mine:
            return None
        values = np.array([one.values[measure] for one in mine])
        if measure in SHARE_MEASURES:
            return estimate_share(values > 0)
        prompts = np.array([one.prompt for one in mine])
        return estimate_mean(values, strata=prompts, min_units=2)

    def mean(self, measure: str) -> float:
        """Return a measure's mean over a sweep's continuations at this strength; NaN if no text has
        it.
        """
        values = [one.values[measure] for one in self.heard if measure in one.values]
        return sum(values) / len(values) if values else math.nan


@dataclass(frozen=True)
class ControlCurve:
    """Means of each measure at every strength of a sweep, for one control of the edit (a matched
    feature or a random direction); NaN where missing.
    """

    values: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class ControlBand:
    """Band of a measure over the n controls of a sweep: their 2.5th to 97.5th percentile."""

    low: float
    high: float
    n: int


@dataclass(frozen=True)
class SweepOutcome:
    """Result of a whole strength sweep: measured texts by strength (`doses`, ascending), texts
    without the edit, and control curves, whose values follow the same strengths.
    """

    default: StrengthTexts
    """Texts without the swept edit; the strength of this entry has no meaning."""
    doses: tuple[StrengthTexts, ...]
    controls: Mapping[str, tuple[ControlCurve, ...]]
    """Control curves by kind: features or directions."""
    neutral: float | None
    """Strength at which the edit has no effect."""
    notes: tuple[str, ...] = ()

    @property
    def strengths(self) -> list[float]:
        """Strengths of the sweep in ascending order."""
        return [dose.strength for dose in self.doses]

    @property
    def measures(self) -> list[str]:
        """Names of the measures that any text of the sweep has."""
        known = {
            name for dose in (self.default, *self.doses) for h in dose.heard for name in h.values
        }
        return [name for name in SWEEP_MEASURES if name in known]

    def at_equal_shift(self, kind: str, measure: str) -> list[ControlBand | None]:
        """Return, for each strength of the sweep, the band of a measure over the controls, which
        change the stream by as much (‖Δh‖) as the edit does at that strength.
        """
        curves = self.controls.get(kind, ())
        return [
            _control_band(
                [curve.values[measure][at] for curve in curves if measure in curve.values]
            )
            for at in range(len(self.doses))
        ]

    def at_equal_kl(self, kind: str, measure: str) -> list[ControlBand | None]:
        """Return, for each strength of the sweep, the band of a measure over the controls at the KL
        that the edit has there, interpolated between the strengths that were run on the same side
        of the neutral one.

        A control that never reaches the KL is left out of n.
        """
        curves = self.controls.get(kind, ())
        found = []
        for dose in self.doses:
            side = [at for at, s in enumerate(self.strengths) if self._beside(s, dose.strength)]
            still = (0.0, self.default.mean(measure))
            reached = [
                _interpolate_at_kl(curve, measure, side, still, dose.mean("kl")) for curve in curves
            ]
            found.append(_control_band(reached))
        return found

    def _beside(self, one: float, other: float) -> bool:
        if self.neutral is None:
            return True
        return (one - self.neutral) * (other - self.neutral) >= 0

    def to_json(self) -> dict[str, Any]:
        """Return the sweep's result as plain data for JSON; NaN and infinite numbers become
        null.
        """
        return _to_plain_data(asdict(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Build a sweep's result from the plain data that `to_json` returns."""
        curves = {
            kind: tuple(
                ControlCurve(
                    {name: tuple(map(_parse_number, v)) for name, v in one["values"].items()}
                )
                for one in some
            )
            for kind, some in data["controls"].items()
        }
        doses = tuple(map(_parse_strength_texts, data["doses"]))
        notes = tuple(data.get("notes", ()))
        return cls(
            _parse_strength_texts(data["default"]), doses, curves, data.get("neutral"), notes
        )


def _parse_strength_texts(data: Mapping[str, Any]) -> StrengthTexts:
    return StrengthTexts(
        float(data["strength"]), tuple(MeasuredText(**one) for one in data["heard"])
    )


def _parse_number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _to_plain_data(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _to_plain_data(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain_data(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _control_band(values: Sequence[float]) -> ControlBand | None:
    found = control_band(values)
    return None if found is None else ControlBand(*found, n=int(np.isfinite(values).sum()))


def _interpolate_at_kl(
    curve: ControlCurve, measure: str, side: Sequence[int], still: tuple[float, float], kl: float
) -> float:
    """Return a sweep control's value at the given KL, interpolated between neighbouring strengths;
    NaN if its KL does not reach that far.

    `still` is the (KL, value) pair without an edit.
    """
    if measure not in curve.values or "kl" not in curve.values:
        return math.nan
    pairs = [still, *((curve.values["kl"][at], curve.values[measure][at]) for at in side)]
    pairs = sorted((k, v) for k, v in pairs if math.isfinite(k) and math.isfinite(v))
    if not pairs or not pairs[0][0] <= kl <= pairs[-1][0]:
        return math.nan
    kls, values = zip(*pairs, strict=True)
    return float(np.interp(kl, kls, values))
