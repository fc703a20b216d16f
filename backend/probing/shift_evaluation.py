"""Evaluation of SHIFT: the probe's accuracy on held-out texts, overall and by group, before and
after ablating features, after retraining, and with random features ablated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.engine import LocalEngine
from backend.probing.accuracy_intervals import (
    accuracy_by_cell,
    accuracy_change,
    accuracy_with_interval,
)
from backend.probing.logistic_probe import LogisticProbe, fit_logistic_probe
from backend.probing.probe_forward import TextBatch, batch_texts, pooled_activations
from backend.probing.probe_ranking import ProbeEffectSums, ProbeProgress, sum_probe_effects
from backend.probing.probe_texts import ProbeTextSets
from backend.probing.shift_request import ShiftRequest
from backend.steering.matched_controls import MATCHING_FACTORS, largest_column_factors
from feature_store.errors import InputError
from feature_store.records import FeatureId

CROSS_FIT_FOLDS = 2
"""Number of folds of the held-out texts for the probe that may train on them."""


@dataclass(frozen=True, eq=False)
class ProbeEvaluation:
    """What an evaluation of a probe needs: tokenized texts and their labels."""

    engine: LocalEngine
    asked: ShiftRequest
    given: ProbeTextSets
    train: Sequence[TextBatch]
    test: Sequence[TextBatch]
    learnt: np.ndarray
    """Labels of the training texts as −1 or +1."""
    judged: np.ndarray
    """Labels of the test texts as −1 or +1."""

    def read(
        self, laid: Sequence[TextBatch], features: Sequence[FeatureId], tick: Callable[[], None]
    ) -> np.ndarray:
        """Return the pooled activations of texts with features ablated."""
        pool: Any = self.asked.pool
        return pooled_activations(self.engine, laid, self.asked.hook, pool, features, tick)

    def told(self, right: np.ndarray) -> dict[str, Any]:
        """Return the accuracy over all test texts, in each cell of label and group, and in the
        worst cell.
        """
        found: dict[str, Any] = {"accuracy": accuracy_with_interval(right)}
        if self.given.grouped:
            cells = accuracy_by_cell(right, [one.cell for one in self.given.test])
            worst = min(cells, key=lambda name: cells[name]["value"])
            found |= {"cells": cells, "worst": {"cell": worst, **cells[worst]}}
        return found


def evaluate_shift(
    engine: LocalEngine, asked: ShiftRequest, tick: ProbeProgress = lambda *_: None
) -> dict[str, Any]:
    """Evaluate a probe with and without the marked features and return the accuracies as plain
    data.

    Raises InputError if no features are marked, and as `rank_probe_features` does.
    """
    if not asked.features:
        raise InputError("No features are marked: mark those that the probe should not rely on.")
    bench = prepare_evaluation(engine, asked)
    quiet = _progress_step(tick, "reading texts")
    clean, held = bench.read(bench.train, (), quiet), bench.read(bench.test, (), quiet)
    probe = fit_logistic_probe(clean, bench.learnt)
    before = probe.right(held, bench.judged)
    after, again = _correct_without(
        bench, probe, asked.features, _progress_step(tick, "without the features")
    )
    skyline = cross_fit_probe(bench, held)
    told = {
        "before": bench.told(before),
        "removed": bench.told(after),
        "retrained": bench.told(again),
        "skyline": bench.told(skyline),
    }
    share = max((bench.learnt > 0).mean(), (bench.learnt < 0).mean())
    most = 1 if (bench.learnt > 0).mean() >= share else -1
    return {
        "labels": list(bench.given.labels),
        "features": [str(one) for one in asked.features],
        "n": [len(bench.learnt), len(bench.judged)],
        "conditions": told,
        "majority": bench.told(bench.judged == most),
        "changes": {
            "removed": accuracy_change(after, before),
            "retrained": accuracy_change(again, before),
        },
        "worst_changes": _changes_in_worst_cell(
            bench, before, {"removed": after, "retrained": again}
        ),
        "controls": _ablate_random_features(bench, probe, tick),
        "repeats": bench.given.repeats,
    }


def prepare_evaluation(engine: LocalEngine, asked: ShiftRequest) -> ProbeEvaluation:
    """Tokenize the texts of a SHIFT request for the evaluation. Raises InputError for texts that
    cannot be used.
    """
    given = asked.sets()
    sides = [batch_texts(engine, [one.text for one in part]) for part in (given.train, given.test)]
    signs = [np.array(given.signs(part)) for part in (given.train, given.test)]
    return ProbeEvaluation(engine, asked, given, sides[0], sides[1], signs[0], signs[1])


def cross_fit_probe(bench: ProbeEvaluation, held: np.ndarray) -> np.ndarray:
    """Return which test texts a cross-fitted probe classifies correctly: each text is judged by a
    probe trained on the other folds of the test set.

    An upper reference: what a probe could do at this hook point without the spurious correlation.
    """
    order = np.random.default_rng(bench.asked.seed).permutation(len(held))
    right = np.zeros(len(held), dtype=bool)
    for fold in range(CROSS_FIT_FOLDS):
        judged = np.zeros(len(held), dtype=bool)
        judged[order[fold::CROSS_FIT_FOLDS]] = True
        if len(set(bench.judged[~judged].tolist())) < 2:
            raise InputError("There are too few test texts: give at least ten of each label.")
        probe = fit_logistic_probe(held[~judged], bench.judged[~judged])
        right[judged] = probe.right(held[judged], bench.judged[judged])
    return right


def _correct_without(
    bench: ProbeEvaluation,
    probe: LogisticProbe,
    features: Sequence[FeatureId],
    tick: Callable[[], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Return which test texts are classified correctly with features ablated, by the same probe and
    by a probe retrained on ablated activations.
    """
    held = bench.read(bench.test, features, tick)
    clean = bench.read(bench.train, features, tick)
    again = fit_logistic_probe(clean, bench.learnt)
    return probe.right(held, bench.judged), again.right(held, bench.judged)


def _changes_in_worst_cell(
    bench: ProbeEvaluation, before: np.ndarray, after: Mapping[str, np.ndarray]
) -> dict[str, Any] | None:
    """Return the change of accuracy in the cell that was worst before ablation; None without
    groups.
    """
    if not bench.given.grouped:
        return None
    cells = np.array([one.cell for one in bench.given.test])
    worst = bench.told(before)["worst"]["cell"]
    here = cells == worst
    found = {name: accuracy_change(right[here], before[here]) for name, right in after.items()}
    return {"cell": worst, **found}


def _ablate_random_features(
    bench: ProbeEvaluation, probe: LogisticProbe, tick: ProbeProgress
) -> dict[str, Any]:
    """Evaluate random sets of active features of the same dictionaries, matched in activation to
    the marked ones.
    """
    asked = bench.asked
    sums, _ = sum_probe_effects(bench.engine, asked, bench.train, probe, bench.learnt)
    draws, factor = draw_matched_features(sums, asked, len(bench.learnt))
    found: dict[str, Any] = {"draws": len(draws), "factor": factor, "removed": [], "retrained": []}
    for number, features in enumerate(draws):
        rights = _correct_without(
            bench, probe, features, _progress_step(tick, "random features:", number, len(draws))
        )
        for name, right in zip(("removed", "retrained"), rights, strict=True):
            told = bench.told(right)
            worst = told["worst"]["value"] if "worst" in told else None
            found[name].append([told["accuracy"]["value"], worst])
    return found


def draw_matched_features(
    sums: Mapping[str, ProbeEffectSums], asked: ShiftRequest, n: int
) -> tuple[list[list[FeatureId]], float | None]:
    """Draw random sets of features matched to the marked ones, and return the largest ratio between
    a feature and its match in share of texts and mean activation.

    No set is drawn if a marked feature has no match.
    """
    rng = np.random.default_rng([asked.seed, 1])
    pools, largest = [], 1.0
    for feature in asked.features:
        near, factor = _matched_candidates(sums.get(feature.dictionary), feature, asked, n)
        if not len(near):
            return [], None
        pools.append(near)
        largest = max(largest, factor)
    found = []
    for _ in range(asked.draws):
        drawn: dict[FeatureId, None] = {}
        for feature, near in zip(asked.features, pools, strict=True):
            others = (FeatureId(feature.dictionary, int(i)) for i in rng.permutation(near))
            free = next((one for one in others if one not in drawn), None)
            if free is not None:
                drawn[free] = None
        found.append(list(drawn))
    return found, largest if np.isfinite(largest) else None


def _matched_candidates(
    sums: ProbeEffectSums | None, feature: FeatureId, asked: ShiftRequest, n: int
) -> tuple[np.ndarray, float]:
    """Return features of the same dictionary that match a marked feature, within the smallest
    factor that leaves enough of them.
    """
    if sums is None:
        return np.array([], dtype=int), 1.0
    values = np.stack([sums.texts.sum(0).numpy() / n, sums.activation.abs().numpy() / n], axis=1)
    marked = [one.index for one in asked.features if one.dictionary == feature.dictionary]
    kept = values[:, 0] > 0
    kept[marked] = False
    ids = np.flatnonzero(kept)
    if not len(ids) or values[feature.index, 0] == 0:
        return ids, float("inf")
    apart = largest_column_factors(values[ids], values[feature.index])
    enough = max(10, len(marked) * 2)
    factor = next(
        (f for f in MATCHING_FACTORS if (apart <= f).sum() >= enough), MATCHING_FACTORS[-1]
    )
    near = ids[apart <= factor]
    return near, factor


def _progress_step(
    tick: ProbeProgress, note: str, done: int = 0, total: int = 0
) -> Callable[[], None]:
    return lambda: tick(done, total, note)
