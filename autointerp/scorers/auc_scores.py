"""AUC scores of scorers that give every window a value, as embedding and surprisal do."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autointerp.contexts import FeatureSample
from autointerp.scorers import classification_scores
from autointerp.scorers.scorer_interface import JudgedItem, LabelScore
from autointerp.text_windows import TextWindow
from feature_store.statistics import MIN_JUDGEMENTS, Estimate, roc_auc

NOT_FINITE = "no number"
"""Kind of failure of a window for which a model gave NaN or infinity."""


def score_split_windows(windows: FeatureSample) -> list[TextWindow]:
    """Return all windows of the score split (firing, random, hard, other sign, in this order), for
    which an AUC scorer computes values."""
    return [*windows.positives, *windows.random, *windows.hard, *windows.other]


def score_window_values(
    scorer: str,
    windows: Sequence[TextWindow],
    values: np.ndarray,
    n_firing: int,
    detail: Mapping[str, Any] | None = None,
) -> LabelScore:
    """Return a label's score as the AUC of window values: how well they distinguish firing windows
    (the sample over the activation range) from random silent ones; AUCs of other kinds of windows
    are parts.

    The first `n_firing` windows fire. `values` [windows]; non-finite ones count as failed.
    """
    rows = [
        JudgedItem(
            e.sequence,
            e.start,
            e.document,
            e.kind,
            float(i < n_firing),
            float(value) if np.isfinite(value) else None,
            failed="" if np.isfinite(value) else NOT_FINITE,
            weight=e.weight if i < n_firing else None,
        )
        for i, (e, value) in enumerate(zip(windows, values, strict=True))
    ]
    answered = [row for row in rows if row.answer is not None]
    firing = [row for row in answered if row.truth]
    # top windows are no random sample
    ranged = classification_scores.sample_over_range(firing)
    parts: dict[str, Estimate] = {}
    for kind in (
        classification_scores.RANDOM,
        classification_scores.HARD,
        classification_scores.OTHER_SIDE,
    ):
        if kind == classification_scores.RANDOM or any(row.kind == kind for row in rows):
            silent = [row for row in answered if not row.truth and row.kind == kind]
            parts[kind] = answers_auc(ranged, silent)
    value = parts.pop(classification_scores.RANDOM)
    random = [row for row in answered if not row.truth and row.kind == classification_scores.RANDOM]
    for kind in sorted({row.kind for row in firing}, key=classification_scores.kind_order):
        of_kind = [row for row in firing if row.kind == kind]
        if len(of_kind) >= MIN_JUDGEMENTS:
            parts[kind] = answers_auc(of_kind, random)
    return LabelScore(
        scorer, "AUC", value, parts, tuple(rows), len(rows) - len(answered), (), detail or {}
    )


def answers_auc(firing: Sequence[JudgedItem], silent: Sequence[JudgedItem]) -> Estimate:
    """Return the AUC by which the window values of an AUC scorer distinguish firing from silent
    windows."""
    return roc_auc(
        [row.answer or 0.0 for row in firing],
        [row.answer or 0.0 for row in silent],
        [row.document for row in firing],
        [row.document for row in silent],
    )
