"""Source tracer: traces target numbers of a replacement model to their sources, the most important
features first.

The tracer starts with the readouts that a graph explains and continues with the features that
matter most for them so far, each traced by the readout of its pre-activation, until the budget is
spent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from backend.circuits.graph_influence import TINY
from backend.circuits.replacement_model import LinearReadout, ReplacementModel, fold_encoder_rows

BATCHES_PER_RANKING = 4
"""Number of batches of the source tracer between two rankings of the features still to be
traced."""
ROW_BLOCK = 256
TracedCountProgress = Callable[[int, int], None]
ImportanceRule = Literal["influence", "signed"]
"""Importance of a source for the tracer: by shares of |effects|, or by its signed contribution."""


@dataclass(frozen=True, eq=False)
class SourceNode:
    """Source of a replacement model: a feature, error term or token embedding at one cut and
    position."""

    site: int
    position: int
    feature: int | None
    value: float
    """Value of the source: the activation of a feature, or the norm of an error term or of a token
    embedding."""


@dataclass(frozen=True, eq=False)
class SourceColumns:
    """All sources of a replacement model in the tracer's order: features, then error terms, then
    tokens."""

    sources: list[SourceNode]
    readouts: list[LinearReadout]
    """Readout of each source feature's pre-activation."""

    @property
    def n_features(self) -> int:
        return len(self.readouts)


class TracedEffects(NamedTuple):
    """Result of a source tracer: direct effects on the explained readouts and on the traced
    features."""

    kept: Int[np.ndarray, "m"]
    """Indices of the source columns that become nodes: traced features, error terms, tokens."""
    effects: Float[np.ndarray, "n n"]
    """Direct effects [target, source] that the tracer found; the explained readouts follow the
    nodes of `kept`. Other rows are empty."""
    values: Float[np.ndarray, "n"]
    """Value of each traced target; NaN for nodes without sources."""
    untraced_share: float
    """Share of the features' contributions to the explained readouts that belongs to features which
    were not traced."""


def list_source_columns(replacement: ReplacementModel) -> SourceColumns:
    """List all sources of a replacement model with the features' readouts. Raises InputError if a
    feature's pre-activation is not linear."""
    features: list[SourceNode] = []
    errors: list[SourceNode] = []
    tokens: list[SourceNode] = []
    readouts: list[LinearReadout] = []
    for i, site in enumerate(replacement.sites):
        if site.activations is not None:
            d, active = site.activations.dictionary, site.activations.active
            hook = replacement.lm.canonical(d.hook_name)
            G, b = fold_encoder_rows(replacement.lm, d, active.feature)
            offsets, positions = b.tolist(), active.position.tolist()
            readouts += [
                LinearReadout(hook, at, G[n], offsets[n]) for n, at in enumerate(positions)
            ]
            features += [
                SourceNode(i, at, feature, value)
                for at, feature, value in zip(
                    positions, active.feature.tolist(), active.value.tolist(), strict=True
                )
            ]
        whole = site.h if site.remainder is None else site.remainder
        norms = whole[0].norm(dim=-1).tolist()
        given = [SourceNode(i, at, None, norm) for at, norm in enumerate(norms)]
        if site.is_tokens:
            tokens += given
        else:
            errors += given
    return SourceColumns([*features, *errors, *tokens], readouts)


class SourceTracer:
    """Tracer that holds, for each readout (an explained number or a feature's pre-activation)
    traced so far, one row of direct effects of all sources of a replacement model."""

    def __init__(
        self,
        replacement: ReplacementModel,
        targets: list[LinearReadout],
        weights: Float[np.ndarray, "targets"],
        *,
        budget: int,
        memory: int,
        rule: ImportanceRule,
    ) -> None:
        """Create the tracer and trace the explained readouts `targets` to their sources. `budget`
        is the maximum number of features to trace; fewer are traced if their rows exceed `memory`
        bytes."""
        self.replacement, self.columns, self.weights, self.rule = (
            replacement,
            list_source_columns(replacement),
            weights,
            rule,
        )
        width = len(self.columns.sources)
        room = min(budget, memory // (4 * max(1, width)) - len(targets), self.columns.n_features)
        self.rows = np.zeros((len(targets) + max(0, room), width), np.float32)
        self.scale = np.zeros(len(self.rows))
        """Divisor of each row of direct effects: the sum of its |effects|, or the activation that
        they add up to."""
        self.values: list[float] = []
        self.features: list[int] = []
        self.n_readouts = len(targets)
        for begin in range(0, len(targets), replacement.rows):
            chosen = targets[begin : begin + replacement.rows]
            self._trace_readouts(chosen, [1.0] * len(chosen))

    def trace_features(self, on_progress: TracedCountProgress | None) -> TracedEffects:
        """Trace features to their sources, the most important first, until the budget is spent."""
        todo, n = len(self.rows) - self.n_readouts, self.columns.n_features
        while len(self.features) < todo:
            best = self._rank_features()[
                : min(todo - len(self.features), BATCHES_PER_RANKING * self.replacement.rows)
            ]
            if not len(best):
                break
            for begin in range(0, len(best), self.replacement.rows):
                chosen = best[begin : begin + self.replacement.rows].tolist()
                made_up = [self.columns.sources[i].value for i in chosen]
                self._trace_readouts([self.columns.readouts[i] for i in chosen], made_up)
                self.features += chosen
                if on_progress:
                    on_progress(len(self.features), todo)
        found = np.abs(self.importance()[:n])
        whole = float(found.sum())
        return self._collect_effects(
            1 - float(found[self.features].sum()) / whole if whole else 0.0
        )

    def importance(self) -> Float[np.ndarray, "sources"]:
        """Return the importance of every source for the explained readouts through the features
        traced so far, by the tracer's rule (shares of |effects|, or signed contributions)."""
        step = self._propagate(self.weights, 0)
        total = step.copy()
        for _ in range(len(self.replacement.sites) + 1):
            step = self._propagate(step[self.features], self.n_readouts)
            if not step.any():
                break
            total += step
        return total

    def _collect_effects(self, untraced_share: float) -> TracedEffects:
        """Return the direct effects between the traced nodes, in the order of the source
        columns."""
        n, total = self.columns.n_features, len(self.columns.sources)
        order = np.argsort(self.features, kind="stable")
        kept = np.array([*sorted(self.features), *range(n, total)], int)
        rows = [*(order + self.n_readouts), *range(self.n_readouts)]
        at = [*range(len(order)), *range(len(kept), len(kept) + self.n_readouts)]
        size = len(kept) + self.n_readouts
        effects, values = np.zeros((size, size), np.float32), np.full(size, np.nan)
        effects[at, : len(kept)] = self.rows[np.ix_(rows, kept)]
        values[at] = np.array(self.values)[rows]
        return TracedEffects(kept, effects, values, untraced_share)

    def _trace_readouts(self, readouts: list[LinearReadout], made_up: list[float]) -> None:
        """Trace some readouts to their sources: store each one's row of direct effects, its value,
        and the divisor that scales the row when importance is propagated."""
        found = self.replacement.source_contributions(readouts).detach().float().cpu().numpy()
        at = slice(len(self.values), len(self.values) + len(found))
        self.rows[at] = found
        by_size = self.rule == "influence"
        self.scale[at] = np.maximum(np.abs(found).sum(1), TINY) if by_size else made_up
        self.values += self.replacement.values(readouts).tolist()

    def _rank_features(self) -> Int[np.ndarray, "m"]:
        """Return the source features still to be traced, the most important first, without those of
        no importance."""
        found = np.abs(self.importance()[: self.columns.n_features])
        found[self.features] = 0
        order = np.argsort(-found, kind="stable")
        return order[: int((found > 0).sum())]

    def _propagate(self, weights: np.ndarray, first: int) -> np.ndarray:
        """Propagate importance to the sources: weights · scaled rows of direct effects from row
        `first` on, block by block to avoid a copy of all rows."""
        total = np.zeros(self.rows.shape[1])
        scaled = weights / self.scale[first : first + len(weights)]
        for begin in range(0, len(weights), ROW_BLOCK):
            part = scaled[begin : begin + ROW_BLOCK]
            rows = self.rows[first + begin : first + begin + len(part)]
            total += part @ (np.abs(rows) if self.rule == "influence" else rows)
        return total
