"""Faithfulness and completeness of nodes by real ablation, with a null beside them.

faithfulness = (F(C) - F(∅)) ÷ (F(M) - F(∅)), a ratio of means over prompts: C keeps the nodes and
has everything else at its baseline, ∅ keeps none, M is the whole model. completeness is the same of
all but the nodes, F(M without C). Error terms count as nodes, or are always kept, or never, and so
in F(∅). Nothing is said where F(M) - F(∅) does not exceed 3 standard errors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backend.ablation.intervals import estimate
from backend.circuits.judging import Judge
from backend.circuits.records import ERRORS, Errors, Estimate, Point
from backend.circuits.table import Table

CLEAR = 3.0
"""Standard errors that F(M) - F(∅) must exceed."""
DRAWS = 200
"""Random sets of the null."""

Said = Callable[[int, int, str], None]
"""Hears (done, total, what is being done), and may raise to stop."""


@dataclass(frozen=True)
class Proof:
    """Curves over the number of nodes, and what they are measured against."""

    points: tuple[Point, ...]
    clean: Estimate
    empty: Estimate
    clear: bool
    """Whether F(M) - F(∅) exceeds its standard errors enough for a share of it to mean anything."""

    def at(self, nodes: int, errors: Errors) -> Point | None:
        """The point of that size and way with errors."""
        return next((p for p in self.points if (p.nodes, p.errors) == (nodes, errors)), None)


def prove(
    judge: Judge,
    table: Table,
    sizes: Sequence[int],
    *,
    nulls: Sequence[int] = (),
    draws: int = DRAWS,
    seed: int = 0,
    said: Said | None = None,
) -> Proof:
    """Judge the strongest nodes, `sizes` of them, in all three ways with error terms.

    `nulls` are the sizes for which random sets of the same make are run too.
    """
    sizes = sorted({*sizes, *nulls})
    sets = table.first([0, *sizes])
    points: list[Point] = []
    base: np.ndarray | None = None
    for errors in ERRORS:
        way: Errors = errors  # pyright: ignore[reportAssignmentType] - ERRORS are its members
        kept = _run(judge, table, sets, way, False, said)
        left = _run(judge, table, sets[1:], way, True, said)
        if base is None:
            base = kept[0]
        if not clear(judge.clean, kept[0]):
            points += [Point(size, way) for size in sizes]
            continue
        for i, size in enumerate(sizes):
            points.append(
                Point(
                    size,
                    way,
                    share(kept[i + 1], kept[0], judge.clean, seed),
                    share(left[i], kept[0], judge.clean, seed),
                )  # fmt: skip
            )
    assert base is not None, "there is a way with error terms"
    found = Proof(
        tuple(points), of(judge.clean[:, None], seed), of(base[:, None], seed),
        clear(judge.clean, base),
    )  # fmt: skip
    return _with_nulls(found, judge, table, nulls, draws, seed, base, said)


def judged(
    judge: Judge, table: Table, member: Bool[Tensor, "n"], errors: Errors = "count", seed: int = 0
) -> Point:
    """One set of nodes, a part of a graph for instance."""
    sets = torch.stack([torch.zeros_like(member), member])
    kept = judge.run(table, sets, errors)
    left = judge.run(table, sets[1:], errors, without=True)
    size = int(member.sum())
    if not clear(judge.clean, kept[0]):
        return Point(size, errors)
    return Point(
        size, errors, share(kept[1], kept[0], judge.clean, seed),
        share(left[0], kept[0], judge.clean, seed),
    )  # fmt: skip


def clear(clean: Float[np.ndarray, "n"], empty: Float[np.ndarray, "n"]) -> bool:
    """Whether F(M) - F(∅) is beyond CLEAR standard errors of itself; one prompt has none, and must
    only differ."""
    apart = clean - empty
    if len(apart) < 2:
        return bool(abs(apart.mean()) > 1e-6 * max(1.0, abs(clean).max()))
    return bool(abs(apart.mean()) > CLEAR * apart.std(ddof=1) / np.sqrt(len(apart)))


def share(
    found: Float[np.ndarray, "n"],
    empty: Float[np.ndarray, "n"],
    clean: Float[np.ndarray, "n"],
    seed: int = 0,
) -> Estimate:
    """The ratio of means with its interval over prompts."""
    return of(np.stack([found, empty, clean], 1), seed, _ratio)


def _ratio(rows: Float[np.ndarray, "... n 3"]) -> Float[np.ndarray, "..."]:
    found, empty, clean = (rows[..., i].mean(-1) for i in range(3))
    return (found - empty) / (clean - empty)


def of(rows: Float[np.ndarray, "n k"], seed: int, statistic: Callable | None = None) -> Estimate:
    """A bootstrap estimate as a record."""
    given = estimate(rows, seed=seed) if statistic is None else estimate(rows, statistic, seed)
    return Estimate(given["value"], given["low"], given["high"], given["n"])


def _run(
    judge: Judge, table: Table, sets: Tensor, errors: Errors, without: bool, said: Said | None
) -> Float[np.ndarray, "sets prompts"]:
    what = f"{'completeness' if without else 'faithfulness'}, errors {errors}"
    tick = None if said is None else lambda done, total: said(done, total, what)
    return judge.run(table, sets, errors, without=without, tick=tick)


def _with_nulls(
    found: Proof, judge: Judge, table: Table, nulls: Sequence[int], draws: int, seed: int,
    empty: np.ndarray, said: Said | None,
) -> Proof:  # fmt: skip
    if not draws or not found.clear:
        return found
    points = list(found.points)
    for size in nulls:
        sets = table.alike(torch.arange(min(size, len(table))), draws, seed)
        tick = None if said is None else lambda done, total: said(done, total, "random sets")
        values = judge.run(table, sets, "count", tick=tick).mean(1)
        shares = (values - empty.mean()) / (judge.clean.mean() - empty.mean())
        low, middle, high, top = np.quantile(shares, [0.025, 0.5, 0.975, 0.95])
        null = Estimate(float(middle), float(low), float(high), draws)
        at = next(i for i, p in enumerate(points) if (p.nodes, p.errors) == (size, "count"))
        here = points[at].faithfulness
        # A share of 1.8 is as far from the model as one of 0.2: more is not better.
        nearer = here and float((abs(shares - 1) > abs(here.value - 1)).mean())
        points[at] = replace(points[at], null=null, null_95=float(top), nearer=nearer)
    return replace(found, points=tuple(points))
