"""Attribution graphs through transcoders: every direct effect on a prompt, and what it amounts to.

With patterns and norm scales held still, each active feature's pre-activation and each logit is a
bias and a sum over features, error terms and tokens before it (Ameisen et al. 2025; circuit-tracer
by Hanna, Piotrowski and others). The sum is exact, so an edge is a promise: take the source away
with patterns, norms and the other features held still, and the target changes by just that much.

1. One forward pass, held still, with every transcoder's output cut.
2. One backward pass for each batch of targets, contracted with the sources' own vectors.
3. Logits first, then features in the order of their influence so far, until the budget is spent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from backend.circuits.aims import Aim
from backend.circuits.frozen import FINAL
from backend.circuits.influence import TINY, Kinds, influence, shares
from backend.circuits.replacement import Number, Replacement, encoder_rows
from backend.dictionaries.base import Dictionary
from backend.live import Text
from backend.lm import Lm
from feature_store.errors import InputError

BUDGET = 2_000
"""Features whose own sources are traced."""
MEMORY = 512 << 20
"""Bytes of direct effects held at once."""
RANK_EVERY = 4
"""Batches between two rankings of the features still to be traced."""
BLOCK = 256

Said = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Place:
    """One source: where it is and what it carries. Columns of a graph, in this order: features,
    error terms, tokens; then logits, which are targets only."""

    site: int
    position: int
    feature: int | None
    value: float
    """A feature's activation, an error term's norm."""


@dataclass(frozen=True, eq=False)
class Graph:
    """Direct effects between the nodes that were traced."""

    effects: Float[np.ndarray, "n n"]
    """Row: target, column: source. Rows of error terms and tokens are empty."""
    places: list[Place]
    """Of all but the logits, which come last."""
    aims: list[Aim]
    values: Float[np.ndarray, "n"]
    """A target's own value: pre-activation or logit; NaN for nodes without sources."""
    replacement: Replacement
    active: int
    """Features active on the prompt, traced or not."""
    left_out: float
    """Share of the features' influence that lies with features that were not traced."""

    @cached_property
    def kinds(self) -> Kinds:
        """Which node is what."""
        sites = self.replacement.sites
        is_token = [sites[place.site].is_tokens for place in self.places]
        is_feature = [place.feature is not None for place in self.places]
        n = len(self.aims)
        token, feature = np.array([*is_token, *[False] * n]), np.array([*is_feature, *[False] * n])
        logit = np.arange(len(token)) >= len(self.places)
        return Kinds(feature, ~(token | feature | logit), token, logit)

    @property
    def weights(self) -> Float[np.ndarray, "n"]:
        """Of the aims; 0 for all other nodes."""
        aims = [aim.weight for aim in self.aims]
        return np.array([*[0.0] * len(self.places), *aims])

    @property
    def n_traced(self) -> int:
        return int(self.kinds.feature.sum())


@dataclass(frozen=True, eq=False)
class _Columns:
    """All sources of a replacement model, before any choice."""

    places: list[Place]
    rows: list[Number]
    """For each feature the number that it is active by."""

    @property
    def n_features(self) -> int:
        return len(self.rows)


def attribution_graph(
    lm: Lm,
    dictionaries: Sequence[Dictionary],
    text: Text,
    aims: Callable[[Float[Tensor, "vocab"]], list[Aim]],
    *,
    budget: int = BUDGET,
    memory: int = MEMORY,
    said: Said | None = None,
) -> Graph:
    """The graph of a prompt. `aims` names the targets from the logits of its last token.

    `said` hears how many of how many features are traced, and may raise to stop. InputError where
    there is no dictionary, or the model cannot be held still.
    """
    if not dictionaries:
        raise InputError("An attribution graph needs a transcoder: name at least one.")
    tokens = torch.tensor([text.token_ids])
    counted = torch.tensor([text.counted])
    held = Replacement(lm, tokens, counted, dictionaries, extra_reads=[f"{FINAL}.hook_out"])
    columns = _columns(held)
    wanted = aims(lm.logits(tokens)[0, -1].detach())
    last = len(text.token_ids) - 1
    numbers = [aim.number(lm, last) for aim in wanted]
    room = memory // (4 * max(1, len(columns.places))) - len(wanted)
    room = max(0, min(budget, room, columns.n_features))
    traced = _Traced(held, columns, numbers, np.array([aim.weight for aim in wanted]), room)
    left_out = traced.spend(said)
    return traced.graph(wanted, left_out)


def _columns(held: Replacement) -> _Columns:
    features: list[Place] = []
    errors: list[Place] = []
    tokens: list[Place] = []
    rows: list[Number] = []
    for i, site in enumerate(held.sites):
        if site.reading is not None:
            d, active = site.reading.dictionary, site.reading.active
            hook = held.lm.canonical(d.hook_name)
            G, b = encoder_rows(held.lm, d, active.feature)
            offsets, positions = b.tolist(), active.position.tolist()
            rows += [Number(hook, at, G[n], offsets[n]) for n, at in enumerate(positions)]
            features += [
                Place(i, at, feature, value)
                for at, feature, value in zip(
                    positions, active.feature.tolist(), active.value.tolist(), strict=True
                )
            ]
        whole = site.h if site.rest is None else site.rest
        norms = whole[0].norm(dim=-1).tolist()
        given = [Place(i, at, None, norm) for at, norm in enumerate(norms)]
        if site.is_tokens:
            tokens += given
        else:
            errors += given
    return _Columns([*features, *errors, *tokens], rows)


class _Traced:
    """Rows of direct effects, as many as have been traced."""

    def __init__(
        self,
        held: Replacement,
        columns: _Columns,
        aims: list[Number],
        weights: np.ndarray,
        room: int,
    ) -> None:
        """`room`: features that can be traced at most."""
        self.held, self.columns, self.weights = held, columns, weights
        self.rows = np.zeros((len(aims) + room, len(columns.places)), np.float32)
        self.sums = np.zeros(len(self.rows))
        """Of each row's |effects|."""
        self.values: list[float] = []
        self.features: list[int] = []
        self.n_aims = len(aims)
        for begin in range(0, len(aims), held.rows):
            self._take(aims[begin : begin + held.rows])

    def spend(self, said: Said | None) -> float:
        """Trace features, the most influential first; the share of influence left untraced."""
        todo, n = len(self.rows) - self.n_aims, self.columns.n_features
        while len(self.features) < todo:
            best = self._ranked()[: min(todo - len(self.features), RANK_EVERY * self.held.rows)]
            if not len(best):
                break
            for begin in range(0, len(best), self.held.rows):
                chosen = best[begin : begin + self.held.rows].tolist()
                self._take([self.columns.rows[i] for i in chosen])
                self.features += chosen
                if said:
                    said(len(self.features), todo)
        found = self._influence()[:n]
        whole = float(found.sum())
        return 1 - float(found[self.features].sum()) / whole if whole else 0.0

    def graph(self, aims: list[Aim], left_out: float) -> Graph:
        """The nodes that were traced, with all error terms and tokens."""
        n, total = self.columns.n_features, len(self.columns.places)
        order = np.argsort(self.features, kind="stable")
        kept = np.array([*sorted(self.features), *range(n, total)], int)
        rows = [*(order + self.n_aims), *range(self.n_aims)]
        at = [*range(len(order)), *range(len(kept), len(kept) + self.n_aims)]
        size = len(kept) + self.n_aims
        effects, values = np.zeros((size, size), np.float32), np.full(size, np.nan)
        effects[at, : len(kept)] = self.rows[np.ix_(rows, kept)]
        values[at] = np.array(self.values)[rows]
        places = [self.columns.places[i] for i in kept]
        return Graph(effects, places, aims, values, self.held, n, left_out)

    def _take(self, numbers: list[Number]) -> None:
        found = self.held.parts(numbers).detach().float().cpu().numpy()
        at = slice(len(self.values), len(self.values) + len(found))
        self.rows[at] = found
        self.sums[at] = np.abs(found).sum(1)
        self.values += self.held.values(numbers).tolist()

    def _ranked(self) -> np.ndarray:
        """Features still to be traced, by falling influence; those with none are left."""
        found = self._influence()[: self.columns.n_features]
        found[self.features] = 0
        order = np.argsort(-found, kind="stable")
        return order[: int((found > 0).sum())]

    def _influence(self) -> np.ndarray:
        """Of every source on the aims, through what has been traced."""
        step = self._through(self.weights, 0)
        total = step.copy()
        for _ in range(len(self.held.sites) + 1):
            step = self._through(step[self.features], self.n_aims)
            if not step.any():
                break
            total += step
        return total

    def _through(self, weights: np.ndarray, first: int) -> np.ndarray:
        """weights · shares of the rows from `first` on, without a copy of all of them."""
        total = np.zeros(self.rows.shape[1])
        scaled = weights / np.maximum(self.sums[first : first + len(weights)], TINY)
        for begin in range(0, len(weights), BLOCK):
            part = scaled[begin : begin + BLOCK]
            at = first + begin
            total += part @ np.abs(self.rows[at : at + len(part)])
        return total


def graph_influence(graph: Graph) -> Float[np.ndarray, "n"]:
    """Of every node of a graph on its aims."""
    return influence(shares(graph.effects), graph.weights)
