"""Faithfulness and completeness of nodes by real ablation; faithfulness with its null beside it.

faithfulness = (F(C) - F(∅)) ÷ (F(M) - F(∅)), a ratio of means over prompts: C keeps the nodes and
has everything else at its baseline, ∅ keeps none, M is the whole model. completeness is the same of
all but the nodes, F(M without C). Error terms count as nodes, or are always kept, or never, and so
in F(∅). Nothing is said where F(M) - F(∅) does not exceed 3 standard errors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.ablation.bootstrap_intervals import bootstrap_estimate
from backend.circuits.complement_ablation import ComplementAblation
from backend.circuits.node_table import NodeTable
from backend.circuits.records import (
    ERROR_TERM_MODES,
    ErrorTermMode,
    Faithfulness,
    FaithfulnessPoint,
    NullFaithfulness,
    PromptEstimate,
)

CLEAR_STANDARD_ERRORS = 3.0
"""Standard errors that F(M) - F(∅) must exceed."""
RANDOM_SETS = 200
"""Random sets of the null."""

StageProgress = Callable[[int, int, str], None]
"""Hears (done, total, what is being done), and may raise to stop."""


@dataclass(frozen=True)
class FaithfulnessCurves:
    """Curves over the number of nodes, and what they are measured against."""

    points: tuple[FaithfulnessPoint, ...]
    clean: PromptEstimate
    empty: PromptEstimate
    clear: bool
    """Whether F(M) - F(∅) exceeds its standard errors enough for a share of it to mean anything."""
    figures: dict[int, Faithfulness] = field(default_factory=dict)
    """By number of nodes, for the sizes that random sets were run of."""

    def at(self, nodes: int, errors: ErrorTermMode) -> FaithfulnessPoint | None:
        """The point of that size and way with errors."""
        return next((p for p in self.points if (p.nodes, p.errors) == (nodes, errors)), None)


def measure_faithfulness_curves(
    judge: ComplementAblation,
    table: NodeTable,
    sizes: Sequence[int],
    *,
    nulls: Sequence[int] = (),
    errors: ErrorTermMode = "count",
    draws: int = RANDOM_SETS,
    seed: int = 0,
    said: StageProgress | None = None,
) -> FaithfulnessCurves:
    """Judge the strongest nodes, `sizes` of them, in all three ways with error terms.

    `nulls` are the sizes of which faithfulness is told: random sets of the same make are run, too,
    with error terms as `errors` says.
    """
    sizes = sorted({*sizes, *nulls})
    sets = table.first([0, *sizes])
    points: list[FaithfulnessPoint] = []
    empty: dict[str, np.ndarray] = {}
    for way in ERROR_TERM_MODES:
        kept = _run_node_sets(judge, table, sets, way, False, said)
        left = _run_node_sets(judge, table, sets[1:], way, True, said)
        empty[way] = kept[0]
        if not is_clearly_different(judge.clean, kept[0]):
            points += [FaithfulnessPoint(size, way) for size in sizes]
            continue
        for i, size in enumerate(sizes):
            points.append(
                FaithfulnessPoint(
                    size,
                    way,
                    estimate_faithfulness(kept[i + 1], kept[0], judge.clean, seed),
                    estimate_faithfulness(left[i], kept[0], judge.clean, seed),
                )
            )
    base = empty["count"]
    figures: dict[int, Faithfulness] = {}
    for point in points:
        if draws and point.share and point.errors == errors and point.nodes in nulls:
            chosen = torch.arange(min(point.nodes, len(table)))
            null = measure_random_sets(
                judge, table, chosen, point.share, empty[errors], errors, draws, seed, said
            )
            figures[point.nodes] = combine_faithfulness_and_null(point, point.share, null)
    return FaithfulnessCurves(
        tuple(points),
        bootstrap_over_prompts(judge.clean[:, None], seed),
        bootstrap_over_prompts(base[:, None], seed),
        is_clearly_different(judge.clean, base),
        figures,
    )


def measure_node_set(
    judge: ComplementAblation,
    table: NodeTable,
    member: Bool[Tensor, "n"],
    errors: ErrorTermMode = "count",
    seed: int = 0,
) -> FaithfulnessPoint:
    """One set of nodes, a part of a graph for instance."""
    sets = torch.stack([torch.zeros_like(member), member])
    kept = judge.run(table, sets, errors)
    left = judge.run(table, sets[1:], errors, without=True)
    size = int(member.sum())
    if not is_clearly_different(judge.clean, kept[0]):
        return FaithfulnessPoint(size, errors)
    return FaithfulnessPoint(
        size,
        errors,
        estimate_faithfulness(kept[1], kept[0], judge.clean, seed),
        estimate_faithfulness(left[0], kept[0], judge.clean, seed),
    )


def is_clearly_different(clean: Float[np.ndarray, "n"], empty: Float[np.ndarray, "n"]) -> bool:
    """Whether F(M) - F(∅) is beyond CLEAR standard errors of itself; one prompt has none, and must
    only differ."""
    apart = clean - empty
    if len(apart) < 2:
        return bool(abs(apart.mean()) > 1e-6 * max(1.0, abs(clean).max()))
    return bool(abs(apart.mean()) > CLEAR_STANDARD_ERRORS * apart.std(ddof=1) / np.sqrt(len(apart)))


def estimate_faithfulness(
    found: Float[np.ndarray, "n"],
    empty: Float[np.ndarray, "n"],
    clean: Float[np.ndarray, "n"],
    seed: int = 0,
) -> PromptEstimate:
    """The ratio of means with its interval over prompts."""
    return bootstrap_over_prompts(np.stack([found, empty, clean], 1), seed, _faithfulness_ratio)


def _faithfulness_ratio(rows: Float[np.ndarray, "... n 3"]) -> Float[np.ndarray, "..."]:
    found, empty, clean = (rows[..., i].mean(-1) for i in range(3))
    return (found - empty) / (clean - empty)


def bootstrap_over_prompts(
    rows: Float[np.ndarray, "n k"], seed: int, statistic: Callable | None = None
) -> PromptEstimate:
    """A bootstrap estimate as a record."""
    given = (
        bootstrap_estimate(rows, seed=seed)
        if statistic is None
        else bootstrap_estimate(rows, statistic, seed)
    )
    return PromptEstimate(given["value"], given["low"], given["high"], given["n"])


def _run_node_sets(
    judge: ComplementAblation,
    table: NodeTable,
    sets: Tensor,
    errors: ErrorTermMode,
    without: bool,
    said: StageProgress | None,
) -> Float[np.ndarray, "sets prompts"]:
    what = f"{'completeness' if without else 'faithfulness'}, errors {errors}"
    tick = None if said is None else lambda done, total: said(done, total, what)
    return judge.run(table, sets, errors, without=without, tick=tick)


def measure_random_sets(
    judge: ComplementAblation,
    table: NodeTable,
    chosen: Int[Tensor, "m"],
    own: PromptEstimate,
    empty: np.ndarray,
    errors: ErrorTermMode,
    draws: int,
    seed: int = 0,
    said: StageProgress | None = None,
) -> NullFaithfulness:
    """Run random sets of as many nodes in every dictionary and slot as the rows `chosen` have.

    `own` is the share that the chosen nodes have and `empty` F(∅), one value a prompt.
    """
    sets = table.alike(chosen, draws, seed)
    tick = None if said is None else lambda done, total: said(done, total, "random sets")
    values = judge.run(table, sets, errors, tick=tick).mean(1)
    shares = (values - empty.mean()) / (judge.clean.mean() - empty.mean())
    low, median, high, top = map(float, np.quantile(shares, [0.025, 0.5, 0.975, 0.95]))
    # A share of 1.8 is as far from the model as one of 0.2: more is not better.
    nearer = float((abs(shares - 1) > abs(own.value - 1)).mean())
    return NullFaithfulness(median, low, high, top, draws, nearer)


def combine_faithfulness_and_null(
    point: FaithfulnessPoint, own: PromptEstimate, null: NullFaithfulness
) -> Faithfulness:
    """A point's share and its null as one figure."""
    return Faithfulness(own.value, null, point.nodes, point.errors, own.low, own.high, own.n)


def measure_node_set_with_null(
    judge: ComplementAblation,
    table: NodeTable,
    member: Bool[Tensor, "n"],
    draws: int = RANDOM_SETS,
    seed: int = 0,
) -> tuple[FaithfulnessPoint, Faithfulness | None]:
    """Judge one set of nodes, error terms counted, and random sets of the same make drawn from all
    of `table`; no figure where the whole model is not clearly better than the empty circuit."""
    point = measure_node_set(judge, table, member, seed=seed)
    if point.share is None:
        return point, None
    nothing = torch.zeros_like(member)[None]
    empty = judge.run(table, nothing, "count")[0]
    chosen = member.nonzero()[:, 0]
    null = measure_random_sets(judge, table, chosen, point.share, empty, "count", draws, seed)
    return point, combine_faithfulness_and_null(point, point.share, null)
