"""Summary of a score job: mean scores over features for each explainer and scorer, compared with
those of baseline labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autointerp import baseline_labels
from autointerp.pipeline.question_tally import QuestionCounts
from autointerp.scorers.scorer_interface import Scorer
from feature_store.statistics import MIN_JUDGEMENTS, Estimate, judge_difference, mean_over_features

OWN_VALUE = ""
"""Name under which the summary keeps the headline value of a score."""
SKIP_FIELDS = ("skipped", "without")
UNEXPLAINED = "unexplained"
"""Reason for skipping a feature that has enough contexts but no explanation."""
YES_OR_NO_MEASURE = "balanced accuracy"
"""The measure of scorers whose judge answers yes or no for each window."""


class ScoreSummary:
    """Summary of a score job: the scores of all features so far by explainer and scorer, and their
    means. Takes eight bytes per value, so that its memory does not grow during the job."""

    def __init__(
        self, d_sae: int, explainers: Sequence[str], scorers: Mapping[str, Scorer]
    ) -> None:
        self._d_sae = d_sae
        self._scorers = scorers
        self._pairs = [(e, s) for e in explainers for s in scorers]
        self._values: dict[tuple[str, str, str], np.ndarray] = {}
        """(explainer, scorer, part or `null NAME`) → one value per feature, NaN where absent."""
        self._failed = {pair: np.zeros(d_sae, np.int32) for pair in self._pairs}
        self._paired = {pair: np.zeros(d_sae, np.int32) for pair in self._pairs}
        self._few = {pair: np.zeros(d_sae, bool) for pair in self._pairs}
        self._reasons: dict[str, np.ndarray] = {}
        self._done = np.zeros(d_sae, bool)
        self.questions = QuestionCounts()

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count the scores of one feature in the summary; a later entry of the same feature
        replaces the earlier one."""
        feature = entry["feature"]
        self.questions.add(entry)
        for where in self._reasons.values():
            where[feature] = False
        for values in self._values.values():
            values[feature] = np.nan
        for name in SKIP_FIELDS:
            if reason := entry.get(name):
                self._reasons.setdefault(reason, np.zeros(self._d_sae, bool))[feature] = True
        for explainer, of in entry.get("scored", {}).items():
            for scorer, found in of.items():
                pair = (explainer, scorer)
                if pair not in self._failed:
                    continue  # an explanation that was deleted meanwhile
                self._few[pair][feature] = found == "few"
                if found != "few":
                    self._put(pair, feature, found)
        self._done[feature] = True  # last: another thread may read `taken` meanwhile

    def _put(self, pair: tuple[str, str], feature: int, found: Mapping[str, Any]) -> None:
        self._failed[pair][feature] = found["failed"]
        self._paired[pair][feature] = found.get("pairs", 0)
        named = {OWN_VALUE: found["value"], **found["parts"]}
        named |= {f"null {name}": value for name, value in found["nulls"].items()}
        for name, value in named.items():
            self._array(*pair, name)[feature] = np.nan if value is None else value

    def _array(self, explainer: str, scorer: str, name: str) -> np.ndarray:
        empty = (explainer, scorer, name)
        if empty not in self._values:
            self._values[empty] = np.full(self._d_sae, np.nan)
        return self._values[empty]

    @property
    def done(self) -> int:
        """Number of features of the score job with any outcome."""
        return int(self._done.sum())

    @property
    def taken(self) -> int:
        """Number of features in the score summary that had enough contexts: those that the option
        `--features top:N` counts."""
        taken = self._done.copy()  # a copy: another thread may count features meanwhile
        for reason, where in list(self._reasons.items()):
            if reason != UNEXPLAINED:
                taken &= ~where
        return int(taken.sum())

    @property
    def skipped(self) -> dict[str, int]:
        """Reason → number of features without a score in the summary."""
        return {name: int(where.sum()) for name, where in sorted(self._reasons.items())}

    def results(self) -> list[dict[str, Any]]:
        """Return the score summary as plain data: one entry for each explainer and scorer."""
        return [self._result(*pair) for pair in self._pairs]

    def values(self, explainer: str, scorer: str) -> np.ndarray:
        """Return the scores in the summary of one explainer by one scorer, one per feature; NaN
        where there is none."""
        return self._array(explainer, scorer, OWN_VALUE)

    def means(self) -> dict[str, dict[str, Any]]:
        """Return `EXPLAINER: SCORER` → mean score so far with n and interval, for progress
        displays.

        Uses Student's interval, since this is computed every second.
        """
        found = {}
        for explainer, scorer in self._pairs:
            values, bounds = self._array(explainer, scorer, OWN_VALUE), self._scorers[scorer].bounds
            found[f"{explainer}: {scorer}"] = mean_to_json(
                mean_over_features(values, bounds, many=MIN_JUDGEMENTS)
            )
        return found

    def _result(self, explainer: str, scorer: str) -> dict[str, Any]:
        own = self._array(explainer, scorer, OWN_VALUE)
        bounds = self._scorers[scorer].bounds
        of = [(e, s, n) for e, s, n in self._values if (e, s) == (explainer, scorer)]
        parts = [name for *_, name in of if name != OWN_VALUE and not name.startswith("null ")]
        return {
            "explainer": explainer,
            "scorer": scorer,
            "measure": self._scorers[scorer].measure,
            **mean_to_json(mean_over_features(own, bounds)),
            "nulls": {
                name: self._null(own, explainer, scorer, name)
                for name in baseline_labels.BASELINE_KINDS
            },
            "parts": {
                name: mean_to_json(
                    mean_over_features(self._array(explainer, scorer, name), widen_bounds(bounds))
                )
                for name in parts
            },
            "yes": share_of_yes_answers(
                self._array(explainer, scorer, "firing"),
                self._array(explainer, scorer, "silent random"),
            )
            if self._scorers[scorer].measure == YES_OR_NO_MEASURE
            else None,
            "verdict": self._verdict(own, explainer, scorer),
            "pairs": int(self._paired[(explainer, scorer)].sum()),
            "failed": int(self._failed[(explainer, scorer)].sum()),
            "skipped": sum(self.skipped.values()) + int(self._few[(explainer, scorer)].sum()),
        }

    def _null(self, own: np.ndarray, explainer: str, scorer: str, name: str) -> dict[str, Any]:
        """Return the mean score, over features, of one kind of baseline label, and the difference
        of the own labels' mean from it."""
        low, high = self._scorers[scorer].bounds
        null = self._array(explainer, scorer, f"null {name}")
        apart = mean_over_features(own - null, (low - high, high - low))
        return mean_to_json(mean_over_features(null, (low, high))) | {
            "difference": mean_to_json(apart)
        }

    def _verdict(self, own: np.ndarray, explainer: str, scorer: str) -> dict[str, Any] | None:
        """Return whether the scores of features' own labels differ from those of borrowed labels;
        None for a scorer whose judge does not see the label."""
        if not self._scorers[scorer].shows_label:
            return None
        low, high = self._scorers[scorer].bounds
        borrowed = self._array(explainer, scorer, "null borrowed")
        return judge_difference(own - borrowed, (low - high, high - low)).to_json()


def share_of_yes_answers(firing: np.ndarray, silent: np.ndarray) -> dict[str, Any]:
    """Return how often a judge says yes, over equally many firing and silent windows, for the score
    summary.

    `firing` and `silent` are each feature's rates of right answers [features], NaN where absent. A
    judge that always says yes has 1, a good one 0.5; a judge that cannot tell may have any share.
    """
    # right answers on silent windows are “no”, so 1 − silent is the share of “yes”
    shares = (firing + 1 - silent) / 2
    kept = shares[np.isfinite(shares)]
    return {"n": len(kept), "mean": float(kept.mean()) if len(kept) else None}


def widen_bounds(bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the smallest and largest possible value of a part in the score summary: those of the
    score, widened to 0 … 1, since a part may be a share where the score is a correlation, or the
    reverse."""
    return min(bounds[0], 0.0), max(bounds[1], 1.0)


def mean_to_json(estimate: Estimate) -> dict[str, Any]:
    """Return a mean over features as the score summary's plain data."""
    ends = (estimate.value, estimate.low, estimate.high)
    mean, low, high = (None if x is None or not np.isfinite(x) else x for x in ends)
    note = {"note": estimate.note} if estimate.note else {}
    return {"n": estimate.n, "mean": mean, "low": low, "high": high, **note}
