"""Classification scores of judges that say for each window whether the feature fires, as in
detection and fuzzing: balanced accuracy, AUC, F1, precision.

Each firing window of the random sample is weighted by the number of windows that it represents, so
that the rate is that of the feature's whole range; a top window, which is not part of the sample,
represents itself. Kinds of negatives are never pooled. Failed answers are in no score.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from autointerp.contexts import FeatureSample
from autointerp.scorers.judge_requests import JudgeAnswer
from autointerp.scorers.scorer_interface import JudgedItem, LabelScore
from autointerp.text_windows import TextWindow
from feature_store.statistics import (
    MIN_JUDGEMENTS,
    ClassAnswers,
    Estimate,
    answer_rate,
    balanced_accuracy,
    f1_score,
    precision_at_density,
    roc_auc,
)

NO_PROBABILITY = "the judge gives no probabilities"
OPEN_PROBABILITIES = "the judge's server leaves the probabilities of {} of {} answers open"
"""Note for an AUC whose probabilities are not available because an option is missing from the
listed candidates; leaving such answers out would leave out those of which the judge was sure, or
had no idea."""
RANDOM, HARD, OTHER_SIDE, WRONG_TOKENS = "random", "hard", "other side", "wrong tokens"
TOP = "top"


def make_judged_item(
    example: TextWindow, kind: str, *, truth: bool, answer: JudgeAnswer
) -> JudgedItem:
    """Return the judge's classification of a window as a judged item."""
    return JudgedItem(
        example.sequence,
        example.start,
        example.document,
        kind,
        float(truth),
        answer.answer,
        answer.probability,
        answer.failed,
        example.weight if truth else None,
    )


def score_classes(
    scorer: str,
    rows: Sequence[JudgedItem],
    failed: int,
    calls: tuple[str, ...],
    density: float | None = None,
    detail: Mapping[str, Any] | None = None,
) -> LabelScore:
    """Return the classification score of a label: balanced accuracy against random negatives, and
    all other measures as parts.

    `density` is the share of windows that fire; without it there is no precision.
    """
    answered = [row for row in rows if row.answer is not None]
    firing = [row for row in answered if row.truth]
    firing_answers = make_class_answers(firing)
    parts: dict[str, Estimate] = {}
    for kind in (RANDOM, HARD, OTHER_SIDE, WRONG_TOKENS):
        silent = [row for row in answered if not row.truth and row.kind == kind]
        # random negatives are always reported, if only as “too few”
        if kind != RANDOM and not any(row.kind == kind for row in rows):
            continue
        silent_answers = make_class_answers(silent)
        parts[kind] = balanced_accuracy(firing_answers, silent_answers)
        parts[f"AUC {kind}"] = probability_auc(firing, silent)
        parts[f"F1 {kind}"] = f1_score(firing_answers, silent_answers)
        parts[f"silent {kind}"] = answer_rate(silent_answers)
        if kind == RANDOM and density is not None:
            parts["precision"] = precision_at_density(firing_answers, silent_answers, density)
    value = parts.pop(RANDOM)
    parts["firing"] = answer_rate(firing_answers)
    for kind in sorted({row.kind for row in firing}, key=kind_order):
        kind_answers = make_class_answers([row for row in firing if row.kind == kind], alike=True)
        if kind_answers.n >= MIN_JUDGEMENTS:
            parts[kind] = answer_rate(kind_answers)
    detail = {**(detail or {}), "strata": count_right_by_kind(rows)}
    return LabelScore(scorer, "balanced accuracy", value, parts, tuple(rows), failed, calls, detail)


def count_right_by_kind(rows: Sequence[JudgedItem]) -> dict[str, tuple[int, int]]:
    """Return kind of window → (number classified correctly, number classified). One feature has few
    windows per decile; a job's mean over features is based on these counts."""
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        if row.answer is not None:
            right, n = found.get(row.kind, (0, 0))
            found[row.kind] = (right + (row.answer == row.truth), n + 1)
    return {kind: found[kind] for kind in sorted(found, key=kind_order)}


def make_class_answers(rows: Sequence[JudgedItem], *, alike: bool = False) -> ClassAnswers:
    """Return for the windows of one class whether each was classified correctly, with their
    documents and weights.

    Weights are used if any window has one, unless all count `alike`; a window without a weight then
    counts 1.
    """
    weighted = not alike and any(row.weight is not None for row in rows)
    weights = [1.0 if row.weight is None else row.weight for row in rows] if weighted else None
    return ClassAnswers.of(
        [row.answer == row.truth for row in rows], [row.document for row in rows], weights
    )


def probability_auc(firing: Sequence[JudgedItem], silent: Sequence[JudgedItem]) -> Estimate:
    """Return the AUC of the probabilities with which windows were classified, with firing windows
    from the sample over the range and not the top ones."""
    ranged = sample_over_range(firing)
    rows = [*ranged, *silent]
    if missing := sum(row.probability is None for row in rows):
        note = (
            NO_PROBABILITY
            if missing == len(rows)
            else OPEN_PROBABILITIES.format(missing, len(rows))
        )
        return Estimate.none(min(len(ranged), len(silent)), 0, note)
    return roc_auc(
        [row.probability or 0.0 for row in ranged],
        [row.probability or 0.0 for row in silent],
        [row.document for row in ranged],
        [row.document for row in silent],
    )


def sample_over_range(firing: Sequence[JudgedItem]) -> list[JudgedItem]:
    """Return the firing windows that are a random sample over the activation range, on which AUCs
    of classification scores are based; all of them where there are only top windows."""
    return [row for row in firing if row.kind != TOP] or list(firing)


def kind_order(kind: str) -> int:
    """Return the sort key of a kind of firing window in classification scores: weakest decile
    first, top last."""
    return int(kind.rpartition(" ")[2]) if kind.startswith("decile ") else 99


def window_density(sampled: FeatureSample) -> float:
    """Return the share of the harvest's windows in which the feature fires, with the sign that is
    scored; the base rate for precision."""
    facts = sampled.facts
    signs = {value > 0 for e in sampled.positives for value in e.activations if value}
    side = facts.positive if signs == {True} else facts.negative
    if facts.positive is None or facts.negative is None or len(signs) != 1 or side is None:
        return facts.window_density
    return side.window_density if sampled.other else facts.window_density
