"""Effects with as many paths as their own check asks for.

The strongest nodes are ablated exactly, one at a time, and the estimates are held against what that
measures. Where they do not agree, the dictionaries at fault are estimated again with twice as many
paths, half of which belong to their strongest nodes alone, until estimates and measurements agree
or MOST_PATHS are reached. The figures of the last check are part of the result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.ablation.estimate_agreement import estimate_agreement
from backend.circuits.circuit_prompts import CircuitPromptSet
from backend.circuits.node_baselines import NodeBaselines
from backend.circuits.node_effects import (
    INTEGRATION_PATHS,
    AttributionMethod,
    CountProgress,
    NodeEffects,
    estimate_node_effects,
    node_keys,
)
from backend.circuits.node_table import NodeTable
from backend.circuits.records import EffectCheck
from backend.circuits.single_node_ablation import ablate_single_nodes
from backend.model.language_model import LanguageModel

MOST_INTEGRATION_PATHS = 64
CHECKED_NODES = 50
"""The strongest nodes, which are ablated exactly: as many as the Circuits page shows at first."""
ERROR_LIMIT = 0.05
"""Σ|estimate - measured| ÷ Σ|measured| over a dictionary's checked nodes: beyond it the dictionary
is estimated again."""


@dataclass(frozen=True, eq=False)
class RefinedEffects:
    """Estimated effects, and what exact ablation measured of the strongest."""

    found: list[NodeEffects]
    table: NodeTable
    measured: Float[Tensor, "m"]
    """Of the first m nodes of `table`: the target's mean change when the node alone goes."""
    check: EffectCheck


def refine_node_effects(
    lm: LanguageModel,
    grounds: NodeBaselines,
    examples: CircuitPromptSet,
    method: AttributionMethod = "integrated",
    paths: int = INTEGRATION_PATHS,
    most_paths: int = MOST_INTEGRATION_PATHS,
    tick: CountProgress | None = None,
) -> RefinedEffects:
    """Estimate all effects with `paths` paths at first, and with up to `most_paths` where the
    strongest nodes' exact ablations say that this is too few. Plain gradients have no paths: they
    are checked once."""
    found = estimate_node_effects(lm, grounds, examples, method, paths, tick)
    known: dict[tuple[int, int, int], float] = {}
    while True:
        table = NodeTable.of(found)
        top = table.rows(torch.arange(min(CHECKED_NODES, len(table))))
        measured = _ablate_new_nodes(lm, grounds, examples, top, known)
        check = compare_with_exact_effects(top.effect.numpy(), measured.numpy(), paths)
        if method == "gradient" or check.reached or 2 * paths > most_paths:
            return RefinedEffects(found, table, measured, check)
        paths *= 2
        wanted = select_inaccurate_dictionaries(top, measured, ERROR_LIMIT)
        alone = {
            nodes.name: strongest_node_keys(nodes, d.d_sae, paths // 2)
            for nodes, d in zip(found, grounds.dictionaries, strict=True)
        }
        fresh = {
            nodes.name: nodes
            for nodes in estimate_node_effects(
                lm, grounds, examples, method, paths, tick, alone=alone, only=wanted
            )
        }
        found = [fresh.get(nodes.name, nodes) for nodes in found]


def compare_with_exact_effects(
    estimated: Float[np.ndarray, "m"], measured: Float[np.ndarray, "m"], paths: int | None = None
) -> EffectCheck:
    """How well estimates agree with exact ablations. Figures that are not defined are None."""
    said = estimate_agreement(list(zip(estimated.tolist(), measured.tolist(), strict=True)))
    there = measured != 0
    errors = np.abs(estimated - measured)[there] / np.abs(measured[there])
    return EffectCheck(
        nodes=len(measured),
        spearman=said["spearman"],
        slope=said["slope"],
        median_error=float(np.median(errors)) if there.any() else None,
        paths=paths,
    )


def select_inaccurate_dictionaries(
    top: NodeTable, measured: Float[Tensor, "m"], most: float
) -> list[str]:
    """The names of dictionaries whose checked estimates are off by more than `most`; all that have
    checked nodes where none is."""
    off = []
    for k, name in enumerate(top.names):
        mine = top.which == k
        wrong = float((top.effect[mine] - measured[mine]).abs().sum())
        if wrong > most * float(measured[mine].abs().sum()):
            off.append(name)
    return off or [name for k, name in enumerate(top.names) if bool((top.which == k).any())]


def strongest_node_keys(nodes: NodeEffects, d_sae: int, most: int) -> Int[Tensor, "k"]:
    """The keys of a dictionary's strongest nodes, at most `most`, the strongest first."""
    first = nodes.effect.abs().argsort(descending=True, stable=True)[:most]
    return node_keys(nodes.slot[first], nodes.feature[first], d_sae)


def _ablate_new_nodes(
    lm: LanguageModel,
    grounds: NodeBaselines,
    examples: CircuitPromptSet,
    top: NodeTable,
    known: dict[tuple[int, int, int], float],
) -> Float[Tensor, "m"]:
    """Exact ablations of the nodes of `top`; those in `known` are not run again."""
    keys: Sequence[tuple[int, int, int]] = list(
        zip(top.which.tolist(), top.slot.tolist(), top.feature.tolist(), strict=True)
    )
    new = torch.tensor([i for i, key in enumerate(keys) if key not in known], dtype=torch.long)
    if len(new):
        some = top.rows(new)
        values = ablate_single_nodes(lm, grounds, examples, some.which, some.slot, some.feature)
        known |= {keys[i]: value for i, value in zip(new.tolist(), values.tolist(), strict=True)}
    return torch.tensor([known[key] for key in keys], dtype=torch.double)
