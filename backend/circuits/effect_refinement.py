"""Refinement of estimated node effects: more integration paths until the estimates agree with exact
ablation.

The strongest nodes are ablated exactly, one at a time, and compared with their estimated effects.
If they disagree, the inaccurate dictionaries are estimated again with twice as many integration
paths, half of which belong to their strongest nodes alone, until estimates and measurements agree
or MOST_INTEGRATION_PATHS is reached. The figures of the last comparison are part of the result.
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
"""Number of strongest nodes whose estimated effects are compared with exact ablation, as many as
the Circuits page shows at first."""
ERROR_LIMIT = 0.05
"""Maximum Σ|estimate − measured| ÷ Σ|measured| over a dictionary's checked nodes; above this limit
its effects are estimated again."""


@dataclass(frozen=True, eq=False)
class RefinedEffects:
    """Estimated effects of all nodes, and the exact effects that were measured for the strongest
    ones."""

    found: list[NodeEffects]
    table: NodeTable
    measured: Float[Tensor, "m"]
    """Exact effects of the first m nodes of `table`: the mean change of the target when only that
    node is ablated."""
    check: EffectCheck


def refine_node_effects(
    lm: LanguageModel,
    baselines: NodeBaselines,
    examples: CircuitPromptSet,
    method: AttributionMethod = "integrated",
    paths: int = INTEGRATION_PATHS,
    most_paths: int = MOST_INTEGRATION_PATHS,
    on_progress: CountProgress | None = None,
) -> RefinedEffects:
    """Estimate the effects of all nodes with `paths` integration paths, and refine them with up to
    `most_paths` where exact ablation of the strongest nodes disagrees. Plain gradients have no
    paths, so they are compared once."""
    found = estimate_node_effects(lm, baselines, examples, method, paths, on_progress)
    known: dict[tuple[int, int, int], float] = {}
    while True:
        table = NodeTable.from_effects(found)
        top = table.select(torch.arange(min(CHECKED_NODES, len(table))))
        measured = _ablate_new_nodes(lm, baselines, examples, top, known)
        check = compare_with_exact_effects(top.effect.numpy(), measured.numpy(), paths)
        if method == "gradient" or check.reached or 2 * paths > most_paths:
            return RefinedEffects(found, table, measured, check)
        paths *= 2
        wanted = select_inaccurate_dictionaries(top, measured, ERROR_LIMIT)
        alone = {
            nodes.name: strongest_node_keys(nodes, d.d_sae, paths // 2)
            for nodes, d in zip(found, baselines.dictionaries, strict=True)
        }
        fresh = {
            nodes.name: nodes
            for nodes in estimate_node_effects(
                lm, baselines, examples, method, paths, on_progress, alone=alone, only=wanted
            )
        }
        found = [fresh.get(nodes.name, nodes) for nodes in found]


def compare_with_exact_effects(
    estimated: Float[np.ndarray, "m"], measured: Float[np.ndarray, "m"], paths: int | None = None
) -> EffectCheck:
    """Compare estimated effects with exact ablations of the same nodes: Spearman correlation, slope
    and median error. Figures that are undefined are None."""
    figures = estimate_agreement(list(zip(estimated.tolist(), measured.tolist(), strict=True)))
    there = measured != 0
    errors = np.abs(estimated - measured)[there] / np.abs(measured[there])
    return EffectCheck(
        nodes=len(measured),
        spearman=figures["spearman"],
        slope=figures["slope"],
        median_error=float(np.median(errors)) if there.any() else None,
        paths=paths,
    )


def select_inaccurate_dictionaries(
    top: NodeTable, measured: Float[Tensor, "m"], most: float
) -> list[str]:
    """Return the names of the dictionaries whose estimated effects differ from the exact ones by
    more than the share `most`, as Σ|difference| ÷ Σ|exact effect|; if there are none, all
    dictionaries with checked nodes."""
    off = []
    for k, name in enumerate(top.names):
        mine = top.which == k
        wrong = float((top.effect[mine] - measured[mine]).abs().sum())
        if wrong > most * float(measured[mine].abs().sum()):
            off.append(name)
    return off or [name for k, name in enumerate(top.names) if bool((top.which == k).any())]


def strongest_node_keys(nodes: NodeEffects, d_sae: int, most: int) -> Int[Tensor, "k"]:
    """Return the keys (slot and feature as one integer, see `node_keys`) of a dictionary's nodes
    with the largest |effect|, at most `most`, in falling order; their effects are to be refined."""
    first = nodes.effect.abs().argsort(descending=True, stable=True)[:most]
    return node_keys(nodes.slot[first], nodes.feature[first], d_sae)


def _ablate_new_nodes(
    lm: LanguageModel,
    baselines: NodeBaselines,
    examples: CircuitPromptSet,
    top: NodeTable,
    known: dict[tuple[int, int, int], float],
) -> Float[Tensor, "m"]:
    """Return the effects of the nodes of `top` by exact ablation. Nodes in `known` are not ablated
    again, and the others are added to it."""
    keys: Sequence[tuple[int, int, int]] = list(
        zip(top.which.tolist(), top.slot.tolist(), top.feature.tolist(), strict=True)
    )
    new = torch.tensor([i for i, key in enumerate(keys) if key not in known], dtype=torch.long)
    if len(new):
        some = top.select(new)
        values = ablate_single_nodes(lm, baselines, examples, some.which, some.slot, some.feature)
        known |= {keys[i]: value for i, value in zip(new.tolist(), values.tolist(), strict=True)}
    return torch.tensor([known[key] for key in keys], dtype=torch.double)
