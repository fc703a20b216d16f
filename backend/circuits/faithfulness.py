"""Faithfulness and completeness of a circuit by real ablation, with random node sets as the null of
faithfulness.

faithfulness = (F(C) − F(∅)) ÷ (F(M) − F(∅)), a ratio of means over prompts: C keeps the nodes and
has everything else at its baseline, ∅ keeps no nodes, M is the unedited model. completeness is the
same ratio for all but the nodes, F(M without C). Error terms count as nodes, are always kept, or
are always ablated, and so in F(∅) as well. Neither is defined where F(M) − F(∅) does not exceed 3
standard errors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.circuits.complement_ablation import ComplementAblation
from backend.circuits.node_table import NodeTable
from backend.circuits.records import (
    ERROR_TERM_MODES,
    ErrorTermMode,
    Faithfulness,
    FaithfulnessPoint,
    NullFaithfulness,
)
from feature_store.statistics.bootstrap_t import estimate_mean, estimate_ratio
from feature_store.statistics.estimate import Estimate

CLEAR_STANDARD_ERRORS = 3.0
"""Number of standard errors that F(M) − F(∅) must exceed for faithfulness to be defined."""
RANDOM_SETS = 200
"""Default number of random node sets in the null of faithfulness."""

StageProgress = Callable[[int, int, str], None]
"""Callback for the measurement of faithfulness that receives (done, total, name of the stage) and
may raise an exception to stop."""


@dataclass(frozen=True)
class FaithfulnessCurves:
    """Faithfulness and completeness of a circuit over its number of kept nodes, with the target of
    the whole model, F(M), and of the circuit without nodes, F(∅)."""

    points: tuple[FaithfulnessPoint, ...]
    clean: Estimate
    empty: Estimate
    is_defined: bool
    """Whether F(M) − F(∅) exceeds its standard error enough for faithfulness to be defined."""
    figures: dict[int, Faithfulness] = field(default_factory=dict)
    """Faithfulness with its null, by number of nodes, for the sizes for which random sets were
    run."""

    def point_at(self, nodes: int, errors: ErrorTermMode) -> FaithfulnessPoint | None:
        """Return the point of the faithfulness curve with that number of nodes and treatment of
        error terms, or None."""
        return next((p for p in self.points if (p.nodes, p.errors) == (nodes, errors)), None)


def measure_faithfulness_curves(
    ablation: ComplementAblation,
    table: NodeTable,
    sizes: Sequence[int],
    *,
    nulls: Sequence[int] = (),
    errors: ErrorTermMode = "count",
    draws: int = RANDOM_SETS,
    seed: int = 0,
    on_progress: StageProgress | None = None,
) -> FaithfulnessCurves:
    """Measure faithfulness and completeness of the strongest nodes at several sizes, with error
    terms counted, kept and removed.

    `nulls` are the sizes for which random node sets of the same composition are run as a null, with
    error terms treated as in `errors`.
    """
    sizes = sorted({*sizes, *nulls})
    sets = table.strongest_sets([0, *sizes])
    points: list[FaithfulnessPoint] = []
    empty: dict[str, np.ndarray] = {}
    for mode in ERROR_TERM_MODES:
        kept_values = _run_node_sets(ablation, table, sets, mode, False, on_progress)
        complement_values = _run_node_sets(ablation, table, sets[1:], mode, True, on_progress)
        empty[mode] = kept_values[0]
        if not is_clearly_different(ablation.clean, kept_values[0]):
            points += [FaithfulnessPoint(size, mode) for size in sizes]
            continue
        for i, size in enumerate(sizes):
            share = estimate_faithfulness(kept_values[i + 1], kept_values[0], ablation.clean, seed)
            completeness = estimate_faithfulness(
                complement_values[i], kept_values[0], ablation.clean, seed
            )
            points.append(FaithfulnessPoint(size, mode, share, completeness))
    base = empty["count"]
    figures: dict[int, Faithfulness] = {}
    for point in points:
        if draws and point.share and point.errors == errors and point.nodes in nulls:
            chosen = torch.arange(min(point.nodes, len(table)))
            null = measure_random_sets(
                ablation,
                table,
                chosen,
                point.share,
                empty[errors],
                errors,
                draws,
                seed,
                on_progress,
            )
            figures[point.nodes] = combine_faithfulness_and_null(point, point.share, null)
    return FaithfulnessCurves(
        tuple(points),
        estimate_mean(ablation.clean, seed),
        estimate_mean(base, seed),
        is_clearly_different(ablation.clean, base),
        figures,
    )


def measure_node_set(
    ablation: ComplementAblation,
    table: NodeTable,
    member: Bool[Tensor, "n"],
    errors: ErrorTermMode = "count",
    seed: int = 0,
) -> FaithfulnessPoint:
    """Measure faithfulness and completeness of one set of nodes, for instance a part of a graph."""
    sets = torch.stack([torch.zeros_like(member), member])
    kept_values = ablation.run(table, sets, errors)
    complement_values = ablation.run(table, sets[1:], errors, without=True)
    size = int(member.sum())
    if not is_clearly_different(ablation.clean, kept_values[0]):
        return FaithfulnessPoint(size, errors)
    return FaithfulnessPoint(
        size,
        errors,
        estimate_faithfulness(kept_values[1], kept_values[0], ablation.clean, seed),
        estimate_faithfulness(complement_values[0], kept_values[0], ablation.clean, seed),
    )


def is_clearly_different(clean: Float[np.ndarray, "n"], empty: Float[np.ndarray, "n"]) -> bool:
    """Return whether faithfulness is defined: the whole model's target less the empty circuit's,
    F(M) − F(∅), exceeds CLEAR_STANDARD_ERRORS standard errors, or merely differs from 0 on a single
    prompt."""
    apart = clean - empty
    if len(apart) < 2:
        return bool(abs(apart.mean()) > 1e-6 * max(1.0, abs(clean).max()))
    return bool(abs(apart.mean()) > CLEAR_STANDARD_ERRORS * apart.std(ddof=1) / np.sqrt(len(apart)))


def estimate_faithfulness(
    found: Float[np.ndarray, "n"],
    empty: Float[np.ndarray, "n"],
    clean: Float[np.ndarray, "n"],
    seed: int = 0,
) -> Estimate:
    """Estimate the faithfulness of a circuit, a ratio of means, with its interval over prompts."""
    return estimate_ratio(found - empty, clean - empty, seed)


def _run_node_sets(
    ablation: ComplementAblation,
    table: NodeTable,
    sets: Tensor,
    errors: ErrorTermMode,
    without: bool,
    on_progress: StageProgress | None,
) -> Float[np.ndarray, "sets prompts"]:
    what = f"{'completeness' if without else 'faithfulness'}, errors {errors}"
    count_progress = (
        None if on_progress is None else lambda done, total: on_progress(done, total, what)
    )
    return ablation.run(table, sets, errors, without=without, on_progress=count_progress)


def measure_random_sets(
    ablation: ComplementAblation,
    table: NodeTable,
    chosen: Int[Tensor, "m"],
    own: Estimate,
    empty: np.ndarray,
    errors: ErrorTermMode,
    draws: int,
    seed: int = 0,
    on_progress: StageProgress | None = None,
) -> NullFaithfulness:
    """Measure the null of faithfulness: random node sets with as many nodes in every dictionary and
    slot as the rows `chosen` have.

    `own` is the faithfulness of the chosen nodes and `empty` is F(∅), one value for each prompt.
    """
    sets = table.random_sets(chosen, draws, seed)
    count_progress = (
        None if on_progress is None else lambda done, total: on_progress(done, total, "random sets")
    )
    values = ablation.run(table, sets, errors, on_progress=count_progress).mean(1)
    shares = (values - empty.mean()) / (ablation.clean.mean() - empty.mean())
    low, median, high, top = map(float, np.quantile(shares, [0.025, 0.5, 0.975, 0.95]))
    # 1.8 is as far from the whole model as 0.2, so compare distances from 1.
    nearer = float((abs(shares - 1) > abs(own.number - 1)).mean())
    return NullFaithfulness(median, low, high, top, draws, nearer)


def combine_faithfulness_and_null(
    point: FaithfulnessPoint, own: Estimate, null: NullFaithfulness
) -> Faithfulness:
    """Combine the faithfulness of a curve point and its null into one record."""
    return Faithfulness(own.number, null, point.nodes, point.errors, own.low, own.high, own.n)


def measure_node_set_with_null(
    ablation: ComplementAblation,
    table: NodeTable,
    member: Bool[Tensor, "n"],
    draws: int = RANDOM_SETS,
    seed: int = 0,
) -> tuple[FaithfulnessPoint, Faithfulness | None]:
    """Measure faithfulness of one node set, with error terms counted, and the null from random sets
    of the same composition drawn from all of `table`; the figure is None if the whole model is not
    clearly better than the empty circuit."""
    point = measure_node_set(ablation, table, member, seed=seed)
    if point.share is None:
        return point, None
    nothing = torch.zeros_like(member)[None]
    empty = ablation.run(table, nothing, "count")[0]
    chosen = member.nonzero()[:, 0]
    null = measure_random_sets(ablation, table, chosen, point.share, empty, "count", draws, seed)
    return point, combine_faithfulness_and_null(point, point.share, null)
