"""Ranking of features by their effect on a target: all effects are estimated by gradients, and the
strongest are measured by ablation for comparison.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backend.ablation.ablation_requests import (
    MAX_DETAILED_PROMPTS,
    EffectRankingRequest,
    check_prompt_cases,
)
from backend.ablation.estimate_agreement import estimate_agreement
from backend.ablation.harvest_means import FeatureMeans
from backend.ablation.model_parts import ModelPart
from backend.ablation.prompt_ablation import AblationProgress, target_and_loss
from backend.ablation.prompt_targets import TargetedPrompts, prepare_prompts
from backend.ablation.ranking_baselines import RankingBaseline
from backend.attribution import effect_estimates as estimates
from backend.attribution.dictionary_activations import read_dictionary_activations
from backend.attribution.effect_estimates import INTEGRATION_STEPS, EffectEstimates
from backend.attribution.exact_ablation import ablate_active_features, logit_spread
from backend.engine import LocalEngine
from feature_store.errors import InputError, pick_by_name

ESTIMATION_METHODS = {
    "gradient": estimates.estimate_by_attribution_patching,
    "integrated": estimates.estimate_by_integrated_gradients,
}
MAX_RANKED_ROWS = 500
"""Maximum number of rows in the ranking: those with the largest estimated effects."""
MAX_NODE_PROMPTS = 8
"""Maximum number of prompts when single tokens (nodes) are ranked."""
NODES_PER_PASS = 16
"""Number of nodes measured in one forward pass; other visitors get the model in between."""


@dataclass(frozen=True)
class RankedEffect:
    """One row of the effect ranking: a feature or an error term, with its estimated and measured
    effect.

    An effect is the change of the target in nats when the part is ablated, averaged over prompts
    (for a node: on its own prompt).
    """

    part: str
    dictionary: str
    feature: int | None
    """Index of the feature; None for an error term."""
    prompt: int | None
    position: int | None
    """Token position of a node. `prompt` and `position` are None if the part is ablated at all
    tokens.
    """
    tokens: int
    """Number of tokens on which the feature is active."""
    activation: float | None
    """Activation of largest magnitude."""
    predicted: float
    measured: float | None = None
    spread: float | None = None
    """Share of the vocabulary whose logits change: (Σ|Δ|)² ÷ (V · ΣΔ²) over centred logit changes
    Δ.
    """


@dataclass(frozen=True, eq=False)
class EstimatedBlock:
    """Estimated effects of ablating the features and error terms of every dictionary on one block
    of prompts; `first` is the number of the block's first prompt.
    """

    first: int
    targeted: TargetedPrompts
    effects: list[EffectEstimates]
    baselines: list[Tensor]
    """Baseline value of each dictionary's nodes."""


def rank_effects(
    engine: LocalEngine,
    request: EffectRankingRequest,
    tick: AblationProgress | None = None,
    means: FeatureMeans | None = None,
) -> dict[str, Any]:
    """Rank the features and error terms of dictionaries by their estimated effect on the target,
    measure the strongest, and return the ranking as plain data.

    Raises InputError for an unknown dictionary or method, an unknown mean, and prompts without a
    donor prompt to take values from.
    """
    method = pick_by_name("way to estimate", request.method, ESTIMATION_METHODS)
    check_prompt_cases(
        request.cases, MAX_NODE_PROMPTS if request.unit == "node" else MAX_DETAILED_PROMPTS
    )
    if not request.dictionaries:
        raise InputError("Pick at least one dictionary.")
    for name in request.dictionaries:
        pick_by_name("dictionary", name, engine.dictionaries)
    targeted = prepare_prompts(engine, request.cases, request.how)
    baseline = RankingBaseline.of(engine, request.how, targeted, means, request.seed)
    targeted = baseline.targeted
    blocks = list(_estimate_blocks(baseline, request, method, tick))
    n = len(targeted)
    ranked = _effects_by_node(blocks) if request.unit == "node" else _effects_by_feature(blocks, n)
    ranked.sort(key=lambda row: -abs(row.predicted))
    measured = _measure_strongest(baseline, request, blocks, ranked, tick)
    rows = measured + ranked[len(measured) : MAX_RANKED_ROWS]
    pairs = [(r.predicted, r.measured) for r in rows if r.measured is not None]
    return {
        "target": "logit_diff" if targeted.target.against is not None else "log_prob",
        "clean": _mean_clean_target(engine, targeted),
        "unit": request.unit,
        "method": request.method,
        "how": request.how,
        "n": n,
        "of": len(ranked),
        "rows": [asdict(row) for row in rows],
        "agreement": estimate_agreement(pairs),
        "cuts": [
            _summarize_dictionary(blocks, i, name) for i, name in enumerate(request.dictionaries)
        ],
        "answers": [ids[0] for ids in targeted.target.answers],
    }


def _estimate_blocks(
    baseline: RankingBaseline,
    request: EffectRankingRequest,
    method: Any,
    tick: AblationProgress | None,
) -> Iterator[EstimatedBlock]:
    """Yield, for each block of prompts that fits one pass, the estimated effects of ablating every
    feature and error term of the ranked dictionaries.
    """
    engine, targeted = baseline.engine, baseline.targeted
    copies = INTEGRATION_STEPS if request.method == "integrated" else 2
    parts = list(targeted.batches(engine.lm.d_vocab, copies))
    done, total = 0, len(parts) * len(request.dictionaries)
    for chosen, batch in parts:
        found, where = [], []
        for name in request.dictionaries:
            one = engine.dictionaries[name]
            (reading,) = read_dictionary_activations(
                engine.lm, [one], batch.prompts.tokens, batch.prompts.counted
            )
            reading, node_baselines = baseline.node_baseline(
                reading, batch, everywhere=request.unit == "feature"
            )
            found += method(
                engine.lm, [reading], {name: node_baselines}, batch.prompts.tokens, batch.target
            )
            where.append(node_baselines.value)
            done += 1
            if tick:
                tick(done, total + _measured_count(request))
        yield EstimatedBlock(chosen.start, batch, found, where)


def _measured_count(request: EffectRankingRequest) -> int:
    return max(request.exact, 0)


@torch.no_grad()
def _mean_clean_target(engine: LocalEngine, targeted: TargetedPrompts) -> float:
    """Return the mean target over the prompts of the ranking in the unedited model."""
    found = [
        batch.target(engine.lm.logits(batch.prompts.tokens))
        for _, batch in targeted.batches(engine.lm.d_vocab)
    ]
    value = float(torch.cat(found).mean())
    target_and_loss(value, 0.0, None)  # raises InputError if NaN
    return value


def _effects_by_feature(blocks: Sequence[EstimatedBlock], n: int) -> list[RankedEffect]:
    """Return one ranking row for each feature: the sum of its nodes' estimates divided by the
    number of prompts.
    """
    rows: list[RankedEffect] = []
    for i, first in enumerate(blocks[0].effects):
        name = first.reading.dictionary.name
        feature = torch.cat([b.effects[i].reading.active.feature for b in blocks]).cpu()
        value = torch.cat([b.effects[i].reading.active.value for b in blocks]).cpu().float()
        node = torch.cat([b.effects[i].node for b in blocks]).cpu().double()
        ids, which = feature.unique(return_inverse=True)
        counts = torch.zeros_like(ids).index_add_(0, which, (value != 0).long())
        total = torch.zeros(len(ids), dtype=torch.double).index_add_(0, which, node) / n
        largest = torch.zeros(len(ids)).scatter_reduce_(0, which, value.abs(), "amax")
        columns = (ids.tolist(), total.tolist(), largest.tolist(), counts.tolist())
        for index, effect, peak, times in zip(*columns, strict=True):
            rows.append(
                RankedEffect(f"{name}/{index}", name, index, None, None, times, peak, effect)
            )
        missed = sum(float(b.effects[i].error.sum()) for b in blocks) / n
        tokens = sum(int(b.targeted.prompts.counted.sum()) for b in blocks)
        rows.append(RankedEffect(f"error:{name}", name, None, None, None, tokens, None, missed))
    return rows


def _effects_by_node(blocks: Sequence[EstimatedBlock]) -> list[RankedEffect]:
    """Return one ranking row for each active feature at each token, and for each error term."""
    rows = []
    for block in blocks:
        for one in block.effects:
            name, active = one.reading.dictionary.name, one.reading.active
            columns = (*(c.tolist() for c in active), one.node.tolist())
            for row, at, index, value, effect in zip(*columns, strict=True):
                here = (block.first + row, at, 1, value, effect)
                rows.append(RankedEffect(f"{name}/{index}", name, index, *here))
            errors = one.error.tolist()
            for row, at in one.reading.counted.nonzero().tolist():
                effect = errors[row][at]
                rows.append(
                    RankedEffect(
                        f"error:{name}", name, None, block.first + row, at, 1, None, effect
                    )
                )
    return rows


def _measure_strongest(
    baseline: RankingBaseline,
    request: EffectRankingRequest,
    blocks: Sequence[EstimatedBlock],
    ranked: Sequence[RankedEffect],
    tick: AblationProgress | None,
) -> list[RankedEffect]:
    """Measure the effects of the first rows of the ranking, those with the largest estimates, each
    by an exact ablation of its own, and return these rows.
    """
    top = list(ranked[: min(max(request.exact, 0), MAX_RANKED_ROWS)])
    before = len(blocks) * len(request.dictionaries)

    def report(done: int) -> None:
        if tick:
            tick(before + done, before + _measured_count(request))

    if request.unit == "node":
        return _measure_nodes(baseline.engine, blocks, top, report)
    found = []
    for number, row in enumerate(top, 1):
        effect, spreads = _measure_part(baseline, ModelPart.parse(row.part))
        found.append(replace(row, measured=effect, spread=spreads))
        report(number)
    return found


@torch.no_grad()
def _measure_part(baseline: RankingBaseline, part: ModelPart) -> tuple[float, float | None]:
    """Return the mean measured effect of ablating one ranked part at all tokens, in nats, and the
    mean share of the vocabulary whose logits it moves.
    """
    effects, spreads = [], []
    for _, batch in baseline.targeted.batches(baseline.engine.lm.d_vocab):
        out = baseline.forward_pass(batch).run([part], batch.prompts)
        effects.append(batch.target(out.ablated) - batch.target(out.clean))
        rows = torch.arange(len(batch), device=out.clean.device)
        last = batch.prompts.last.to(out.clean.device)
        spreads.append(logit_spread((out.ablated - out.clean)[rows, last].float()))
    return float(torch.cat(effects).mean()), finite_or_none(torch.cat(spreads).nanmean())


def _measure_nodes(
    engine: LocalEngine, blocks: Sequence[EstimatedBlock], top: list[RankedEffect], report: Any
) -> list[RankedEffect]:
    """Measure the effects of ranked feature nodes, each ablated at its own token; error terms keep
    their estimate only.
    """
    found, done = dict(enumerate(top)), 0
    for block in blocks:
        for one, node_baselines in zip(block.effects, block.baselines, strict=True):
            place = _number_nodes(block, one)
            key = {
                i: place.get((r.dictionary, r.prompt, r.position, r.feature))
                for i, r in enumerate(top)
                if r.feature is not None
            }
            wanted = {i: at for i, at in key.items() if at is not None}
            if not wanted:
                continue
            nodes = torch.tensor(list(wanted.values()), device=one.node.device)
            exact_effects = ablate_active_features(
                engine.lm,
                one.reading,
                nodes,
                node_baselines,
                block.targeted.prompts.tokens,
                block.targeted.target.only,
                block.targeted.target.last,
                on_progress=lambda k, done=done: report(done + k),
                rows=NODES_PER_PASS,
            )
            done += len(wanted)
            for i, effect, share in zip(
                wanted, exact_effects.effect, exact_effects.spread, strict=True
            ):
                found[i] = replace(found[i], measured=float(effect), spread=finite_or_none(share))
    return list(found.values())


def _number_nodes(
    block: EstimatedBlock, one: EffectEstimates
) -> Mapping[tuple[str, int | None, int | None, int | None], int]:
    """Return a table from (dictionary, prompt, position, feature) to the index of that node, an
    active feature at one token, among a block's estimated effects.
    """
    active, name = one.reading.active, one.reading.dictionary.name
    columns = (active.row.tolist(), active.position.tolist(), active.feature.tolist())
    return {
        (name, block.first + row, at, index): i
        for i, (row, at, index) in enumerate(zip(*columns, strict=True))
    }


def _summarize_dictionary(blocks: Sequence[EstimatedBlock], i: int, name: str) -> dict[str, Any]:
    """Return one dictionary's total estimated effects in the ranking and the share of its error
    terms.

    Dictionaries that read the same stream overlap, so their totals are never added.
    """
    missed = sum(float(b.effects[i].error.abs().sum()) for b in blocks)
    kept = sum(float(b.effects[i].node.abs().sum()) for b in blocks)
    signed = [float(x) for b in blocks for x in b.effects[i].total]
    moved = np.array([float(x) for b in blocks for x in b.effects[i].moved])
    return {
        "dictionary": name,
        "nodes": sum(len(b.effects[i].node) for b in blocks),
        "error_share": missed / (missed + kept) if missed + kept else None,
        "estimated": float(np.mean(signed)),
        "moved": None if np.isnan(moved).any() else float(moved.mean()),
    }


def finite_or_none(value: Tensor) -> float | None:
    """Return a measured figure of the effect ranking as a float, or None if it is NaN."""
    return None if bool(value.isnan()) else float(value)
