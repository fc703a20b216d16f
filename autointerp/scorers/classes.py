"""The numbers of a scorer that asks of windows whether they fire: detection and fuzzing.

Firing windows are counted by how many each stands for, so that the rate is that of the feature's
whole range; a strongest window, which is no random sample, stands for itself. Kinds of negatives
are never pooled. Answers that failed are in no number.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from autointerp.contexts import Sampled
from autointerp.scorers.questions import Verdict
from autointerp.scorers.records import Judged, Scored
from autointerp.statistics import (
    ENOUGH,
    Answers,
    Estimate,
    auc,
    balanced_accuracy,
    f1,
    precision,
    rate,
)
from autointerp.windows import Example

NO_PROBABILITY = "the judge gives no probabilities"
OPEN = "the judge's server leaves the probabilities of {} of {} answers open"
"""Where an option is missing from the candidates that it lists; to leave such answers out would
leave out those of which the judge was sure, or had no idea."""
RANDOM, HARD, OTHER, WRONG = "random", "hard", "other side", "wrong tokens"
TOP = "top"


def judged(example: Example, kind: str, *, truth: bool, verdict: Verdict) -> Judged:
    """A verdict on a window."""
    return Judged(
        example.sequence,
        example.start,
        example.document,
        kind,
        float(truth),
        verdict.answer,
        verdict.probability,
        verdict.failed,
        example.weight if truth else None,
    )


def of_classes(
    scorer: str,
    rows: Sequence[Judged],
    failed: int,
    calls: tuple[str, ...],
    density: float | None = None,
    detail: Mapping[str, Any] | None = None,
) -> Scored:
    """Balanced accuracy against random negatives, and all else by part.

    `density` is the share of windows that fire; without it there is no precision.
    """
    good = [row for row in rows if row.answer is not None]
    firing = [row for row in good if row.truth]
    hits = answers(firing)
    parts: dict[str, Estimate] = {}
    for kind in (RANDOM, HARD, OTHER, WRONG):
        silent = [row for row in good if not row.truth and row.kind == kind]
        if kind != RANDOM and not any(row.kind == kind for row in rows):
            continue
        against = answers(silent)
        parts[kind] = balanced_accuracy(hits, against)
        parts[f"AUC {kind}"] = area(firing, silent)
        parts[f"F1 {kind}"] = f1(hits, against)
        parts[f"silent {kind}"] = rate(against)
        if kind == RANDOM and density is not None:
            parts["precision"] = precision(hits, against, density)
    value = parts.pop(RANDOM)
    parts["firing"] = rate(hits)
    for kind in sorted({row.kind for row in firing}, key=strength):
        one = answers([row for row in firing if row.kind == kind], alike=True)
        if one.n >= ENOUGH:
            parts[kind] = rate(one)
    detail = {**(detail or {}), "strata": strata(rows)}
    return Scored(scorer, "balanced accuracy", value, parts, tuple(rows), failed, calls, detail)


def strata(rows: Sequence[Judged]) -> dict[str, tuple[int, int]]:
    """Kind of window → how many were judged rightly, how many were judged. One feature has few of
    each decile; a job's mean over features rests on these."""
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        if row.answer is not None:
            right, n = found.get(row.kind, (0, 0))
            found[row.kind] = (right + (row.answer == row.truth), n + 1)
    return {kind: found[kind] for kind in sorted(found, key=strength)}


def answers(rows: Sequence[Judged], *, alike: bool = False) -> Answers:
    """Whether each answer was right; with weights if any of them has one, unless all count
    `alike`. A window without one, where others have, stands for itself."""
    weighted = not alike and any(row.weight is not None for row in rows)
    weights = [1.0 if row.weight is None else row.weight for row in rows] if weighted else None
    return Answers.of(
        [row.answer == row.truth for row in rows], [row.document for row in rows], weights
    )


def area(firing: Sequence[Judged], silent: Sequence[Judged]) -> Estimate:
    """AUC of the probabilities. Firing windows are the sample over the range, not the top ones."""
    ranged = sample_of(firing)
    rows = [*ranged, *silent]
    if missing := sum(row.probability is None for row in rows):
        note = NO_PROBABILITY if missing == len(rows) else OPEN.format(missing, len(rows))
        return Estimate.none(min(len(ranged), len(silent)), 0, note)
    return auc(
        [row.probability or 0.0 for row in ranged],
        [row.probability or 0.0 for row in silent],
        [row.document for row in ranged],
        [row.document for row in silent],
    )


def sample_of(firing: Sequence[Judged]) -> list[Judged]:
    """The random sample among firing windows; all of them where they are no more than top ones."""
    return [row for row in firing if row.kind != TOP] or list(firing)


def strength(kind: str) -> int:
    """Order of the kinds of firing windows: weakest decile first, top last."""
    return int(kind.rpartition(" ")[2]) if kind.startswith("decile ") else 99


def window_density(sampled: Sampled) -> float:
    """The share of the harvest's windows in which the feature fires, on the side that is scored."""
    facts = sampled.facts
    signs = {value > 0 for e in sampled.positives for value in e.activations if value}
    side = facts.positive if signs == {True} else facts.negative
    if facts.positive is None or facts.negative is None or len(signs) != 1 or side is None:
        return facts.window_density
    return side.window_density if sampled.other else facts.window_density
