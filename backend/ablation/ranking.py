"""Rank features by their effect on a target: all by estimate, the strongest measured beside it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backend.ablation.agreement import agreement
from backend.ablation.asked import AT_ONCE, Ranking, check_cases
from backend.ablation.baselines import Ground
from backend.ablation.laying import Laid, lay_out
from backend.ablation.means import Means
from backend.ablation.parts import Part
from backend.ablation.trial import Tick, side
from backend.attribution import effects as estimates
from backend.attribution.effects import STEPS, Effects
from backend.attribution.exact import exact, spread
from backend.attribution.nodes import read
from backend.engine import LocalEngine
from feature_store.errors import InputError, pick

METHODS = {"gradient": estimates.by_gradient, "integrated": estimates.by_integration}
KEPT = 500
"""Rows kept: the strongest by estimate."""
NODES_AT_ONCE = 8
"""Prompts of which single tokens are told."""
PASS = 16
"""Nodes of one exact pass: other visitors get the model in between."""


@dataclass(frozen=True)
class Row:
    """A feature or an error term. Effects are the target's change when it is taken away, in nats,
    the mean over prompts (a node's: on its own prompt)."""

    part: str
    dictionary: str
    feature: int | None
    """None: an error term."""
    prompt: int | None
    position: int | None
    """Both None where it is away at all tokens."""
    tokens: int
    """Tokens on which it is active."""
    activation: float | None
    """Of largest magnitude."""
    predicted: float
    measured: float | None = None
    spread: float | None = None
    """(Σ|Δ|)² ÷ (V · ΣΔ²) over centred logit changes: the share of the vocabulary it moves."""


@dataclass(frozen=True, eq=False)
class Estimated:
    """One block of prompts: their number of the first, and every dictionary's estimates."""

    first: int
    laid: Laid
    found: list[Effects]
    where: list[Tensor]
    """Of each dictionary's nodes, the value that they go to."""


def rank(
    engine: LocalEngine, asked: Ranking, tick: Tick | None = None, means: Means | None = None
) -> dict[str, Any]:
    """The answer as plain data. InputError for unknown dictionaries and methods, for means that
    are not known, and for prompts that have no other one to take values from."""
    method = pick("way to estimate", asked.method, METHODS)
    check_cases(asked.cases, NODES_AT_ONCE if asked.unit == "node" else AT_ONCE)
    if not asked.dictionaries:
        raise InputError("Pick at least one dictionary.")
    for name in asked.dictionaries:
        pick("dictionary", name, engine.dictionaries)
    laid = lay_out(engine, asked.cases, asked.how)
    ground = Ground.of(engine, asked.how, laid, means, asked.seed)
    laid = ground.laid
    blocks = list(_estimated(ground, asked, method, tick))
    n = len(laid)
    made = _nodes(blocks) if asked.unit == "node" else _features(blocks, n)
    made.sort(key=lambda row: -abs(row.predicted))
    measured = _measured(ground, asked, blocks, made, tick)
    rows = measured + made[len(measured) : KEPT]
    pairs = [(r.predicted, r.measured) for r in rows if r.measured is not None]
    return {
        "target": "logit_diff" if laid.target.against is not None else "log_prob",
        "clean": _clean(engine, laid),
        "unit": asked.unit,
        "method": asked.method,
        "how": asked.how,
        "n": n,
        "of": len(made),
        "rows": [asdict(row) for row in rows],
        "agreement": agreement(pairs),
        "cuts": [_cut(blocks, i, name) for i, name in enumerate(asked.dictionaries)],
        "answers": [ids[0] for ids in laid.target.answers],
    }


def _estimated(
    ground: Ground, asked: Ranking, method: Any, tick: Tick | None
) -> Iterator[Estimated]:
    engine, laid = ground.engine, ground.laid
    copies = STEPS if asked.method == "integrated" else 2
    parts = list(laid.batches(engine.lm.d_vocab, copies))
    done, total = 0, len(parts) * len(asked.dictionaries)
    for chosen, some in parts:
        found, where = [], []
        for name in asked.dictionaries:
            one = engine.dictionaries[name]
            (reading,) = read(engine.lm, [one], some.prompts.tokens, some.prompts.counted)
            reading, goes = ground.baseline(reading, some, everywhere=asked.unit == "feature")
            found += method(engine.lm, [reading], {name: goes}, some.prompts.tokens, some.target)
            where.append(goes.value)
            done += 1
            if tick:
                tick(done, total + _passes(asked))
        yield Estimated(chosen.start, some, found, where)


def _passes(asked: Ranking) -> int:
    return max(asked.exact, 0)


@torch.no_grad()
def _clean(engine: LocalEngine, laid: Laid) -> float:
    """The target's mean over the prompts as they are."""
    found = [
        some.target(engine.lm.logits(some.prompts.tokens))
        for _, some in laid.batches(engine.lm.d_vocab)
    ]
    value = float(torch.cat(found).mean())
    side(value, 0.0, None)  # refuses what is no number
    return value


def _features(blocks: Sequence[Estimated], n: int) -> list[Row]:
    """Each feature's nodes together: the estimate is their sum, over the number of prompts."""
    rows: list[Row] = []
    for i, first in enumerate(blocks[0].found):
        name = first.reading.dictionary.name
        feature = torch.cat([b.found[i].reading.active.feature for b in blocks]).cpu()
        value = torch.cat([b.found[i].reading.active.value for b in blocks]).cpu().float()
        node = torch.cat([b.found[i].node for b in blocks]).cpu().double()
        ids, which = feature.unique(return_inverse=True)
        counts = torch.zeros_like(ids).index_add_(0, which, (value != 0).long())
        total = torch.zeros(len(ids), dtype=torch.double).index_add_(0, which, node) / n
        largest = torch.zeros(len(ids)).scatter_reduce_(0, which, value.abs(), "amax")
        columns = (ids.tolist(), total.tolist(), largest.tolist(), counts.tolist())
        for index, effect, peak, times in zip(*columns, strict=True):
            rows.append(Row(f"{name}/{index}", name, index, None, None, times, peak, effect))
        missed = sum(float(b.found[i].error.sum()) for b in blocks) / n
        tokens = sum(int(b.laid.prompts.counted.sum()) for b in blocks)
        rows.append(Row(f"error:{name}", name, None, None, None, tokens, None, missed))
    return rows


def _nodes(blocks: Sequence[Estimated]) -> list[Row]:
    """Each active feature at each token; error terms as well."""
    rows = []
    for block in blocks:
        for one in block.found:
            name, active = one.reading.dictionary.name, one.reading.active
            columns = (*(c.tolist() for c in active), one.node.tolist())
            for row, at, index, value, effect in zip(*columns, strict=True):
                here = (block.first + row, at, 1, value, effect)
                rows.append(Row(f"{name}/{index}", name, index, *here))
            errors = one.error.tolist()
            for row, at in one.reading.counted.nonzero().tolist():
                effect = errors[row][at]
                rows.append(
                    Row(f"error:{name}", name, None, block.first + row, at, 1, None, effect)
                )
    return rows


def _measured(
    ground: Ground,
    asked: Ranking,
    blocks: Sequence[Estimated],
    made: Sequence[Row],
    tick: Tick | None,
) -> list[Row]:
    """The strongest rows, each taken away in a run of its own."""
    top = list(made[: min(max(asked.exact, 0), KEPT)])
    before = len(blocks) * len(asked.dictionaries)

    def said(done: int) -> None:
        if tick:
            tick(before + done, before + _passes(asked))

    if asked.unit == "node":
        return _exact_nodes(ground.engine, blocks, top, said)
    found = []
    for number, row in enumerate(top, 1):
        effect, spreads = _away(ground, Part.parse(row.part))
        found.append(replace(row, measured=effect, spread=spreads))
        said(number)
    return found


@torch.no_grad()
def _away(ground: Ground, part: Part) -> tuple[float, float | None]:
    """Mean effect and mean spread with one part away at all tokens."""
    effects, spreads = [], []
    for _, some in ground.laid.batches(ground.engine.lm.d_vocab):
        out = ground.ablation(some).outcome([part], some.prompts)
        effects.append(some.target(out.ablated) - some.target(out.clean))
        rows = torch.arange(len(some), device=out.clean.device)
        last = some.prompts.last.to(out.clean.device)
        spreads.append(spread((out.ablated - out.clean)[rows, last].float()))
    return float(torch.cat(effects).mean()), number(torch.cat(spreads).nanmean())


def _exact_nodes(
    engine: LocalEngine, blocks: Sequence[Estimated], top: list[Row], said: Any
) -> list[Row]:
    """Nodes of features measured one token at a time; error terms keep their estimate."""
    found, done = dict(enumerate(top)), 0
    for block in blocks:
        for one, goes in zip(block.found, block.where, strict=True):
            place = _places(block, one)
            key = {
                i: place.get((r.dictionary, r.prompt, r.position, r.feature))
                for i, r in enumerate(top)
                if r.feature is not None
            }
            wanted = {i: at for i, at in key.items() if at is not None}
            if not wanted:
                continue
            nodes = torch.tensor(list(wanted.values()), device=one.node.device)
            gone = exact(
                engine.lm,
                one.reading,
                nodes,
                goes,
                block.laid.prompts.tokens,
                block.laid.target.only,
                block.laid.target.last,
                said=lambda k, done=done: said(done + k),
                rows=PASS,
            )
            done += len(wanted)
            for i, effect, share in zip(wanted, gone.effect, gone.spread, strict=True):
                found[i] = replace(found[i], measured=float(effect), spread=number(share))
    return list(found.values())


def _places(
    block: Estimated, one: Effects
) -> Mapping[tuple[str, int | None, int | None, int | None], int]:
    """(dictionary, prompt, position, feature) → number of the node."""
    active, name = one.reading.active, one.reading.dictionary.name
    columns = (active.row.tolist(), active.position.tolist(), active.feature.tolist())
    return {
        (name, block.first + row, at, index): i
        for i, (row, at, index) in enumerate(zip(*columns, strict=True))
    }


def _cut(blocks: Sequence[Estimated], i: int, name: str) -> dict[str, Any]:
    """What one dictionary's features and errors carry; cuts are never summed."""
    missed = sum(float(b.found[i].error.abs().sum()) for b in blocks)
    kept = sum(float(b.found[i].node.abs().sum()) for b in blocks)
    signed = [float(x) for b in blocks for x in b.found[i].total]
    moved = np.array([float(x) for b in blocks for x in b.found[i].moved])
    return {
        "dictionary": name,
        "nodes": sum(len(b.found[i].node) for b in blocks),
        "error_share": missed / (missed + kept) if missed + kept else None,
        "estimated": float(np.mean(signed)),
        "moved": None if np.isnan(moved).any() else float(moved.mean()),
    }


def number(value: Tensor) -> float | None:
    """None for what is no number."""
    return None if bool(value.isnan()) else float(value)
