"""The numbers of a scorer that gives every window a value: embedding and surprisal."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autointerp.contexts import Sampled
from autointerp.scorers import classes
from autointerp.scorers.records import Judged, Scored
from autointerp.statistics import ENOUGH, Estimate, auc
from autointerp.windows import Example

BROKEN = "no number"
"""What failed where a model gave NaN or infinity for a window."""


def asked(windows: Sampled) -> list[Example]:
    """All windows of the score split."""
    return [*windows.positives, *windows.random, *windows.hard, *windows.other]


def of_values(
    scorer: str,
    windows: Sequence[Example],
    values: np.ndarray,
    n_firing: int,
    detail: Mapping[str, Any] | None = None,
) -> Scored:
    """AUC of the sample over the firing range against random windows; other kinds apart.

    The first `n_firing` windows fire. `values` [windows]; what is not finite failed.
    """
    rows = [
        Judged(
            e.sequence,
            e.start,
            e.document,
            e.kind,
            float(i < n_firing),
            float(value) if np.isfinite(value) else None,
            failed="" if np.isfinite(value) else BROKEN,
            weight=e.weight if i < n_firing else None,
        )
        for i, (e, value) in enumerate(zip(windows, values, strict=True))
    ]
    good = [row for row in rows if row.answer is not None]
    firing = [row for row in good if row.truth]
    ranged = classes.sample_of(firing)
    parts: dict[str, Estimate] = {}
    for kind in (classes.RANDOM, classes.HARD, classes.OTHER):
        if kind == classes.RANDOM or any(row.kind == kind for row in rows):
            silent = [row for row in good if not row.truth and row.kind == kind]
            parts[kind] = area(ranged, silent)
    value = parts.pop(classes.RANDOM)
    random = [row for row in good if not row.truth and row.kind == classes.RANDOM]
    for kind in sorted({row.kind for row in firing}, key=classes.strength):
        some = [row for row in firing if row.kind == kind]
        if len(some) >= ENOUGH:
            parts[kind] = area(some, random)
    return Scored(scorer, "AUC", value, parts, tuple(rows), len(rows) - len(good), (), detail or {})


def area(firing: Sequence[Judged], silent: Sequence[Judged]) -> Estimate:
    """AUC of the answers, each a number here."""
    return auc(
        [row.answer or 0.0 for row in firing],
        [row.answer or 0.0 for row in silent],
        [row.document for row in firing],
        [row.document for row in silent],
    )
