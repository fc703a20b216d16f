"""Evaluation of SHIFT: the probe's accuracy on held-out texts, overall and by group, before and
after ablating features, after retraining, and with random features ablated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.engine import LocalEngine
from backend.probing.logistic_probe import LogisticProbe, fit_logistic_probe
from backend.probing.probe_forward import TextBatch, batch_texts, pooled_activations
from backend.probing.probe_ranking import ProbeEffectSums, ProbeProgress, sum_probe_effects
from backend.probing.probe_texts import ProbeTextSets
from backend.probing.shift_request import ShiftRequest
from backend.steering.matched_controls import MATCHING_FACTORS, largest_column_factors
from feature_store.errors import InputError
from feature_store.records import FeatureId
from feature_store.statistics.proportion_intervals import estimate_paired_difference, estimate_share

CROSS_FIT_FOLDS = 2
"""Number of folds of the held-out texts for the probe that may train on them."""


@dataclass(frozen=True, eq=False)
class ProbeEvaluation:
    """What the evaluation of SHIFT needs: the request, tokenized texts and their labels."""

    engine: LocalEngine
    request: ShiftRequest
    texts: ProbeTextSets
    train: Sequence[TextBatch]
    test: Sequence[TextBatch]
    train_signs: np.ndarray
    """Labels of the training texts as −1 or +1."""
    test_signs: np.ndarray
    """Labels of the test texts as −1 or +1."""

    def read(
        self, laid: Sequence[TextBatch], features: Sequence[FeatureId], tick: Callable[[], None]
    ) -> np.ndarray:
        """Return the pooled activations of texts with features ablated, as input to the evaluated
        probe.
        """
        pool: Any = self.request.pool
        return pooled_activations(self.engine, laid, self.request.hook, pool, features, tick)

    def accuracies(self, right: np.ndarray) -> dict[str, Any]:
        """Return the probe's accuracy over all test texts, in each cell of label and group, and in
        the worst cell; `right` says which texts it classifies correctly.
        """
        found: dict[str, Any] = {"accuracy": estimate_share(right).to_record()}
        if self.texts.grouped:
            cells = estimate_share_by_cell(right, [one.cell for one in self.texts.test])
            worst = min(cells, key=lambda name: cells[name]["value"])
            found |= {"cells": cells, "worst": {"cell": worst, **cells[worst]}}
        return found


def estimate_share_by_cell(right: np.ndarray, cells: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the accuracy, with its interval, over the texts of each cell of label and group.

    `right` [texts] says whether the probe was right; `cells` [texts] names each text's cell.
    """
    names = np.array(cells)
    return {
        str(name): estimate_share(right[names == name]).to_record() for name in sorted(set(cells))
    }


def evaluate_shift(
    engine: LocalEngine, request: ShiftRequest, tick: ProbeProgress = lambda *_: None
) -> dict[str, Any]:
    """Evaluate a probe with and without the marked features and return the accuracies as plain
    data.

    Raises InputError if no features are marked, and as `rank_probe_features` does.
    """
    if not request.features:
        raise InputError("No features are marked: mark those that the probe should not rely on.")
    evaluation = prepare_evaluation(engine, request)
    quiet = _progress_step(tick, "reading texts")
    clean, held = (
        evaluation.read(evaluation.train, (), quiet),
        evaluation.read(evaluation.test, (), quiet),
    )
    probe = fit_logistic_probe(clean, evaluation.train_signs)
    before = probe.is_correct(held, evaluation.test_signs)
    after, again = _correct_without(
        evaluation, probe, request.features, _progress_step(tick, "without the features")
    )
    skyline = cross_fit_probe(evaluation, held)
    accuracies = {
        "before": evaluation.accuracies(before),
        "removed": evaluation.accuracies(after),
        "retrained": evaluation.accuracies(again),
        "skyline": evaluation.accuracies(skyline),
    }
    share = max((evaluation.train_signs > 0).mean(), (evaluation.train_signs < 0).mean())
    most = 1 if (evaluation.train_signs > 0).mean() >= share else -1
    return {
        "labels": list(evaluation.texts.labels),
        "features": [str(one) for one in request.features],
        "n": [len(evaluation.train_signs), len(evaluation.test_signs)],
        "conditions": accuracies,
        "majority": evaluation.accuracies(evaluation.test_signs == most),
        "changes": {
            "removed": estimate_paired_difference(after, before).to_record(),
            "retrained": estimate_paired_difference(again, before).to_record(),
        },
        "worst_changes": _changes_in_worst_cell(
            evaluation, before, {"removed": after, "retrained": again}
        ),
        "controls": _ablate_random_features(evaluation, probe, tick),
        "repeats": evaluation.texts.repeats,
    }


def prepare_evaluation(engine: LocalEngine, request: ShiftRequest) -> ProbeEvaluation:
    """Tokenize the texts of a SHIFT request for the evaluation. Raises InputError for texts that
    cannot be used.
    """
    given = request.text_sets()
    sides = [batch_texts(engine, [one.text for one in part]) for part in (given.train, given.test)]
    signs = [np.array(given.signs(part)) for part in (given.train, given.test)]
    return ProbeEvaluation(engine, request, given, sides[0], sides[1], signs[0], signs[1])


def cross_fit_probe(evaluation: ProbeEvaluation, held: np.ndarray) -> np.ndarray:
    """Evaluate an upper reference for SHIFT: which test texts a probe classifies correctly that was
    trained on the other folds of the test set, without the spurious correlation.
    """
    order = np.random.default_rng(evaluation.request.seed).permutation(len(held))
    right = np.zeros(len(held), dtype=bool)
    for fold in range(CROSS_FIT_FOLDS):
        judged = np.zeros(len(held), dtype=bool)
        judged[order[fold::CROSS_FIT_FOLDS]] = True
        if len(set(evaluation.test_signs[~judged].tolist())) < 2:
            raise InputError("There are too few test texts: give at least ten of each label.")
        probe = fit_logistic_probe(held[~judged], evaluation.test_signs[~judged])
        right[judged] = probe.is_correct(held[judged], evaluation.test_signs[judged])
    return right


def _correct_without(
    evaluation: ProbeEvaluation,
    probe: LogisticProbe,
    features: Sequence[FeatureId],
    tick: Callable[[], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate a probe with features ablated: return which test texts are classified correctly by
    the same probe, and by a probe retrained on ablated activations.
    """
    held = evaluation.read(evaluation.test, features, tick)
    clean = evaluation.read(evaluation.train, features, tick)
    again = fit_logistic_probe(clean, evaluation.train_signs)
    return probe.is_correct(held, evaluation.test_signs), again.is_correct(
        held, evaluation.test_signs
    )


def _changes_in_worst_cell(
    evaluation: ProbeEvaluation, before: np.ndarray, after: Mapping[str, np.ndarray]
) -> dict[str, Any] | None:
    """Return by how much each condition of the SHIFT evaluation changes the accuracy in the cell of
    label and group that was worst before; None without groups.
    """
    if not evaluation.texts.grouped:
        return None
    cells = np.array([one.cell for one in evaluation.texts.test])
    worst = evaluation.accuracies(before)["worst"]["cell"]
    here = cells == worst
    found = {
        name: estimate_paired_difference(right[here], before[here]).to_record()
        for name, right in after.items()
    }
    return {"cell": worst, **found}


def _ablate_random_features(
    evaluation: ProbeEvaluation, probe: LogisticProbe, tick: ProbeProgress
) -> dict[str, Any]:
    """Evaluate SHIFT with random sets of active features of the same dictionaries, matched in
    activation to the marked ones.
    """
    request = evaluation.request
    sums, _ = sum_probe_effects(
        evaluation.engine, request, evaluation.train, probe, evaluation.train_signs
    )
    draws, factor = draw_matched_features(sums, request, len(evaluation.train_signs))
    found: dict[str, Any] = {"draws": len(draws), "factor": factor, "removed": [], "retrained": []}
    for number, features in enumerate(draws):
        rights = _correct_without(
            evaluation,
            probe,
            features,
            _progress_step(tick, "random features:", number, len(draws)),
        )
        for name, right in zip(("removed", "retrained"), rights, strict=True):
            accuracies = evaluation.accuracies(right)
            worst = accuracies["worst"]["value"] if "worst" in accuracies else None
            found[name].append([accuracies["accuracy"]["value"], worst])
    return found


def draw_matched_features(
    sums: Mapping[str, ProbeEffectSums], request: ShiftRequest, n: int
) -> tuple[list[list[FeatureId]], float | None]:
    """Draw the random sets of features that SHIFT is evaluated against, matched to the marked ones,
    and return the largest ratio between a feature and its match in share of texts and mean
    activation.

    No set is drawn if a marked feature has no match.
    """
    rng = np.random.default_rng([request.seed, 1])
    pools, largest = [], 1.0
    for feature in request.features:
        near, factor = _matched_candidates(sums.get(feature.dictionary), feature, request, n)
        if not len(near):
            return [], None
        pools.append(near)
        largest = max(largest, factor)
    found = []
    for _ in range(request.draws):
        drawn: dict[FeatureId, None] = {}
        for feature, near in zip(request.features, pools, strict=True):
            others = (FeatureId(feature.dictionary, int(i)) for i in rng.permutation(near))
            free = next((one for one in others if one not in drawn), None)
            if free is not None:
                drawn[free] = None
        found.append(list(drawn))
    return found, largest if np.isfinite(largest) else None


def _matched_candidates(
    sums: ProbeEffectSums | None, feature: FeatureId, request: ShiftRequest, n: int
) -> tuple[np.ndarray, float]:
    """Return features of the same dictionary that match a feature marked for SHIFT, within the
    smallest factor that leaves enough of them.
    """
    if sums is None:
        return np.array([], dtype=int), 1.0
    values = np.stack([sums.texts.sum(0).numpy() / n, sums.activation.abs().numpy() / n], axis=1)
    marked = [one.index for one in request.features if one.dictionary == feature.dictionary]
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
