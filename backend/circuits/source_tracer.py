"""Targets traced to their sources, one batch of backward passes after another, best first.

A tracer begins with the numbers that a graph is to explain and goes on with the features that
matter most for them so far, each traced by the number that it is active by, until its room is full.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from backend.circuits.graph_influence import TINY
from backend.circuits.replacement_model import LinearReadout, ReplacementModel, fold_encoder_rows

BATCHES_PER_RANKING = 4
"""Batches between two rankings of the features still to be traced."""
ROW_BLOCK = 256
TracedCountProgress = Callable[[int, int], None]
ImportanceRule = Literal["influence", "signed"]
"""How much a source matters: by shares of |effects|, or by what it adds up to, with sign."""


@dataclass(frozen=True, eq=False)
class SourceNode:
    """One source: where it is and what it carries."""

    site: int
    position: int
    feature: int | None
    value: float
    """A feature's activation, the norm of an error term or of an embedding."""


@dataclass(frozen=True, eq=False)
class SourceColumns:
    """All sources of a replacement model: features, then error terms, then tokens."""

    places: list[SourceNode]
    rows: list[LinearReadout]
    """For each feature the number that it is active by."""

    @property
    def n_features(self) -> int:
        return len(self.rows)


class TracedEffects(NamedTuple):
    """What a tracer found: direct effects on aims and traced features."""

    kept: Int[np.ndarray, "m"]
    """The columns that are nodes: traced features, error terms, tokens."""
    effects: Float[np.ndarray, "n n"]
    """Row: target, column: source; the aims come behind `kept`. Other rows are empty."""
    values: Float[np.ndarray, "n"]
    """Each target's own value; NaN for nodes without sources."""
    left_out: float
    """Share of the features' part in the aims that lies with features that were not traced."""


def list_source_columns(held: ReplacementModel) -> SourceColumns:
    """InputError where what makes a feature active cannot be split."""
    features: list[SourceNode] = []
    errors: list[SourceNode] = []
    tokens: list[SourceNode] = []
    rows: list[LinearReadout] = []
    for i, site in enumerate(held.sites):
        if site.reading is not None:
            d, active = site.reading.dictionary, site.reading.active
            hook = held.lm.canonical(d.hook_name)
            G, b = fold_encoder_rows(held.lm, d, active.feature)
            offsets, positions = b.tolist(), active.position.tolist()
            rows += [LinearReadout(hook, at, G[n], offsets[n]) for n, at in enumerate(positions)]
            features += [
                SourceNode(i, at, feature, value)
                for at, feature, value in zip(
                    positions, active.feature.tolist(), active.value.tolist(), strict=True
                )
            ]
        whole = site.h if site.rest is None else site.rest
        norms = whole[0].norm(dim=-1).tolist()
        given = [SourceNode(i, at, None, norm) for at, norm in enumerate(norms)]
        if site.is_tokens:
            tokens += given
        else:
            errors += given
    return SourceColumns([*features, *errors, *tokens], rows)


class SourceTracer:
    """Rows of direct effects, as many as have been traced."""

    def __init__(
        self,
        held: ReplacementModel,
        aims: list[LinearReadout],
        weights: Float[np.ndarray, "aims"],
        *,
        budget: int,
        memory: int,
        rule: ImportanceRule,
    ) -> None:
        """`budget`: features to trace at most; fewer where their rows exceed `memory` bytes."""
        self.held, self.columns, self.weights, self.rule = (
            held,
            list_source_columns(held),
            weights,
            rule,
        )
        width = len(self.columns.places)
        room = min(budget, memory // (4 * max(1, width)) - len(aims), self.columns.n_features)
        self.rows = np.zeros((len(aims) + max(0, room), width), np.float32)
        self.scale = np.zeros(len(self.rows))
        """What a row is divided by: the sum of its |effects|, or the activation they make up."""
        self.values: list[float] = []
        self.features: list[int] = []
        self.n_aims = len(aims)
        for begin in range(0, len(aims), held.rows):
            chosen = aims[begin : begin + held.rows]
            self._take(chosen, [1.0] * len(chosen))

    def spend(self, said: TracedCountProgress | None) -> TracedEffects:
        """Trace features, the most important first, until the room is full."""
        todo, n = len(self.rows) - self.n_aims, self.columns.n_features
        while len(self.features) < todo:
            best = self._ranked()[
                : min(todo - len(self.features), BATCHES_PER_RANKING * self.held.rows)
            ]
            if not len(best):
                break
            for begin in range(0, len(best), self.held.rows):
                chosen = best[begin : begin + self.held.rows].tolist()
                made_up = [self.columns.places[i].value for i in chosen]
                self._take([self.columns.rows[i] for i in chosen], made_up)
                self.features += chosen
                if said:
                    said(len(self.features), todo)
        found = np.abs(self.importance()[:n])
        whole = float(found.sum())
        return self._traced(1 - float(found[self.features].sum()) / whole if whole else 0.0)

    def importance(self) -> Float[np.ndarray, "sources"]:
        """Of every source for the aims, through what has been traced: by the tracer's rule."""
        step = self._through(self.weights, 0)
        total = step.copy()
        for _ in range(len(self.held.sites) + 1):
            step = self._through(step[self.features], self.n_aims)
            if not step.any():
                break
            total += step
        return total

    def _traced(self, left_out: float) -> TracedEffects:
        n, total = self.columns.n_features, len(self.columns.places)
        order = np.argsort(self.features, kind="stable")
        kept = np.array([*sorted(self.features), *range(n, total)], int)
        rows = [*(order + self.n_aims), *range(self.n_aims)]
        at = [*range(len(order)), *range(len(kept), len(kept) + self.n_aims)]
        size = len(kept) + self.n_aims
        effects, values = np.zeros((size, size), np.float32), np.full(size, np.nan)
        effects[at, : len(kept)] = self.rows[np.ix_(rows, kept)]
        values[at] = np.array(self.values)[rows]
        return TracedEffects(kept, effects, values, left_out)

    def _take(self, numbers: list[LinearReadout], made_up: list[float]) -> None:
        found = self.held.parts(numbers).detach().float().cpu().numpy()
        at = slice(len(self.values), len(self.values) + len(found))
        self.rows[at] = found
        by_size = self.rule == "influence"
        self.scale[at] = np.maximum(np.abs(found).sum(1), TINY) if by_size else made_up
        self.values += self.held.values(numbers).tolist()

    def _ranked(self) -> Int[np.ndarray, "m"]:
        """Features still to be traced, the most important first; those that do nothing are left."""
        found = np.abs(self.importance()[: self.columns.n_features])
        found[self.features] = 0
        order = np.argsort(-found, kind="stable")
        return order[: int((found > 0).sum())]

    def _through(self, weights: np.ndarray, first: int) -> np.ndarray:
        """weights · scaled rows from `first` on, without a copy of all of them."""
        total = np.zeros(self.rows.shape[1])
        scaled = weights / self.scale[first : first + len(weights)]
        for begin in range(0, len(weights), ROW_BLOCK):
            part = scaled[begin : begin + ROW_BLOCK]
            rows = self.rows[first + begin : first + begin + len(part)]
            total += part @ (np.abs(rows) if self.rule == "influence" else rows)
        return total
