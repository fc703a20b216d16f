"""Sparse feature circuits on the demo: do estimates agree with ablation, how many nodes does a task
take, and what does attribution cost.

Prompts are clean and corrupt pairs of the demo's tasks, from its training templates with names,
places and fillers drawn anew. Nodes are judged on other pairs than they are chosen on.
"""

import time
from collections.abc import Sequence
from typing import Any

import torch

from backend.ablation.estimate_agreement import estimate_agreement
from backend.attribution.hook_gradients import compute_hook_gradients
from backend.circuits.circuit_prompts import CircuitPromptSet, sample_task_prompts
from backend.circuits.complement_ablation import ComplementAblation
from backend.circuits.faithfulness import measure_faithfulness_curves, measure_node_set
from backend.circuits.node_and_edge_checks import check_edges
from backend.circuits.node_baselines import NodeBaselines
from backend.circuits.node_effects import estimate_node_effects, multiply_changes_and_gradient
from backend.circuits.node_table import NodeTable
from backend.circuits.records import FaithfulnessPoint
from backend.circuits.single_node_ablation import ablate_single_nodes
from backend.circuits.sparse_feature_circuit import (
    SparseFeatureSettings,
    find_sparse_feature_circuit,
    select_dictionaries,
)
from backend.demo import DICTIONARIES, MODEL
from backend.dictionaries import load
from backend.engine import LocalEngine
from backend.model.device import choose_placement
from backend.model.language_model import LanguageModel
from benchmarks.goals import Goal, table

TASKS = ("indirect_object", "greater_than", "pronoun")
BASELINES = ("zero", "mean", "pair", "resample")
PROMPTS = 16
CHOOSING, JUDGING = 400, 100
"""Pairs on which nodes are chosen, and on which they are judged."""
TOP, RANDOM = 100, 200
SIZES = (25, 50, 75, 100, 150, 200, 300, 400, 500, 600, 800, 1000, 1500, 2000)
RESIDUAL = ("resid-0", "resid-1", "resid-2", "resid-3")
ENOUGH = 0.8
CLOSE = 5
"""Nodes within which the smallest faithful circuit is found."""


def demo() -> LocalEngine:
    """The demo's model with all its dictionaries, straight from the weights."""
    placement = choose_placement("cpu")
    lm = LanguageModel.load(str(MODEL), placement)
    found = {
        path.name: load(str(path), name=path.name, placement=placement, width=lm.width)
        for path in DICTIONARIES
    }
    return LocalEngine(lm, found, bos=lm.bos)


def measure(*, quick: bool = False) -> dict[str, Any]:
    """All three questions."""
    engine = demo()
    tasks = TASKS[:1] if quick else TASKS
    few = 6 if quick else PROMPTS
    return {
        "nodes": [nodes(engine, task, baseline, few) for task in tasks for baseline in BASELINES],
        "edges": [edges(engine, task, few) for task in tasks],
        "circuits": [
            circuit(
                engine,
                task,
                *((12, 12) if quick else (CHOOSING, JUDGING)),
                draws=10 if quick else 200,
            )
            for task in tasks
        ],
        "cost": cost(engine, 20 if quick else 200),
    }


def nodes(engine: LocalEngine, task: str, baseline: Any, prompts: int) -> dict[str, Any]:
    """Integrated gradients and plain gradients against exact ablation."""
    some = sample_task_prompts(engine, task, prompts)
    baselines = NodeBaselines(engine.lm, select_dictionaries(engine, ()), baseline, some)
    found: dict[str, Any] = {"task": task, "baseline": baseline, "prompts": prompts}
    for method in ("integrated", "gradient"):
        made = estimate_node_effects(engine.lm, baselines, some, method)
        ranked = NodeTable.from_effects(made)
        found[method] = {
            "top": against_exact(
                engine, baselines, some, ranked.select(torch.arange(min(TOP, len(ranked))))
            )
        }
        if method == "integrated":
            found["gap"] = max(one.gap or 0.0 for one in made)
            found["steps"] = max(one.steps for one in made)
            active = ranked.active.nonzero()[:, 0]
            drawn = torch.randperm(len(active), generator=torch.Generator().manual_seed(0))
            random = ranked.select(active[drawn[:RANDOM]])
            found[method]["random"] = against_exact(engine, baselines, some, random)
            found["nodes"] = len(ranked)
            found["error_share"] = {one.name: one.error_share for one in made}
    return found


def against_exact(
    engine: LocalEngine, baselines: NodeBaselines, some: CircuitPromptSet, rows: NodeTable
) -> dict[str, Any]:
    """Agreement of estimates with single ablations."""
    measured = ablate_single_nodes(engine.lm, baselines, some, rows.which, rows.slot, rows.feature)
    return estimate_agreement(list(zip(rows.effect.tolist(), measured.tolist(), strict=True)))


def edges(engine: LocalEngine, task: str, prompts: int) -> dict[str, Any]:
    """Edges of a circuit against interventions, three ways."""
    found = find_sparse_feature_circuit(
        engine,
        sample_task_prompts(engine, task, prompts),
        settings=SparseFeatureSettings("pair", nodes=80, draws=0),
    )
    checked = check_edges(engine, found)
    return {
        "task": task,
        **{
            way: {k: v for k, v in checked[way].items() if k != "pairs"}
            for way in ("frozen", "direct", "free")
        },
    }


def circuit(
    engine: LocalEngine,
    task: str,
    choosing: int,
    judging: int,
    draws: int,
    names: Sequence[str] = RESIDUAL,
) -> dict[str, Any]:
    """How many nodes a task takes, with residual dictionaries after every layer."""
    some = sample_task_prompts(engine, task, choosing + judging)
    first, second = some.select(slice(0, choosing)), some.select(slice(choosing, None))
    baselines = NodeBaselines(engine.lm, select_dictionaries(engine, names), "pair", first)
    ranked = NodeTable.from_effects(
        estimate_node_effects(engine.lm, baselines, first, "integrated", paths=4)
    )
    ablation = ComplementAblation(engine.lm, baselines, second)
    sizes = [size for size in SIZES if size < len(ranked)]
    proof = measure_faithfulness_curves(ablation, ranked, [*sizes, len(ranked)], draws=0)
    counted = [point for point in proof.points if point.errors == "count"]
    enough = next((p.nodes for p in counted if faithful(p)), None)
    if enough is not None:
        enough = smallest(
            ablation, ranked, max((s for s in sizes if s < enough), default=0), enough
        )
    found = {
        "task": task,
        "chosen_on": len(first),
        "pairs": len(second),
        "candidates": len(ranked),
        "dictionaries": list(names),
        "clean": proof.clean.value,
        "empty": proof.empty.value,
        "enough": enough,
        "points": [point_row(p) for p in proof.points],
    }
    if enough is not None and draws:
        again = measure_faithfulness_curves(
            ablation, ranked, [enough], nulls=[100, enough], draws=draws
        )
        found["null"] = {n: one.null.percentile_95 for n, one in again.figures.items()}
    return found


def faithful(point: FaithfulnessPoint) -> bool:
    """Whether the interval's lower bound is enough; without an interval nothing is said."""
    share = point.share
    return share is not None and share.low is not None and share.low >= ENOUGH


def smallest(ablation: ComplementAblation, ranked: NodeTable, few: int, enough: int) -> int:
    """The smallest size between one that is too small and one that is enough, by halving."""
    while enough - few > CLOSE:
        middle = (few + enough) // 2
        if faithful(measure_node_set(ablation, ranked, torch.arange(len(ranked)) < middle)):
            enough = middle
        else:
            few = middle
    return enough


def point_row(point: Any) -> list[Any]:
    """[nodes, errors, faithfulness, low, high, completeness]"""
    one, other = point.share, point.completeness
    return [
        point.nodes,
        point.errors,
        *((one.value, one.low, one.high) if one else (None, None, None)),
        other.value if other else None,
    ]


def cost(engine: LocalEngine, sample: int) -> dict[str, Any]:
    """CPU seconds of a forward, of attribution, and of ablating every active node, on a prompt."""
    some = sample_task_prompts(engine, TASKS[0], 1)
    baselines = NodeBaselines(engine.lm, select_dictionaries(engine, ()), "zero", some)
    tokens, target = some.batch.prompts.tokens, some.batch.target
    hooks = [d.hook_out for d in baselines.dictionaries]
    sites = baselines.read_dictionaries(some)

    def attribute() -> None:
        g = compute_hook_gradients(engine.lm, tokens, hooks, target).gradients
        for site in sites:
            multiply_changes_and_gradient(site, g[site.dictionary.hook_out])

    with torch.no_grad():
        forward = seconds(lambda: engine.lm.logits(tokens), 30)
    estimate = seconds(attribute, 20)
    whole = seconds(lambda: estimate_node_effects(engine.lm, baselines, some, "gradient"), 10)
    ranked = NodeTable.from_effects(estimate_node_effects(engine.lm, baselines, some, "gradient"))
    active = ranked.select(ranked.active.nonzero()[:, 0])
    few = active.select(torch.randperm(len(active))[:sample])
    started = time.process_time()
    ablate_single_nodes(engine.lm, baselines, some, few.which, few.slot, few.feature)
    each = (time.process_time() - started) / len(few)
    return {
        "tokens": tokens.shape[1],
        "nodes": len(active),
        "forward": forward,
        "attribution": estimate,
        "with_reading": whole,
        "exact": each * len(active),
        "sample": len(few),
    }


def seconds(work: Any, times: int) -> float:
    """The median CPU seconds of a call."""
    found = []
    for _ in range(times):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return sorted(found)[len(found) // 2]


def goals(facts: dict[str, Any]) -> list[Goal]:
    """Issue figures."""
    found = []
    for one in facts["nodes"]:
        name, got = f"{one['task']}, {one['baseline']}", one["integrated"]["top"]
        for key, bound in (("spearman", 0.8), ("pearson", 0.9), ("signs", 0.95)):
            found.append(Goal(f"{key} of the top nodes: {name}", got[key], bound, at_least=True))
        found.append(Goal(f"slope, least: {name}", got["slope"], 0.8, at_least=True))
        found.append(Goal(f"slope, most: {name}", got["slope"], 1.25))
        found.append(Goal(f"gap of integrated gradients: {name}", one["gap"], 0.02))
    for one in facts["edges"]:
        error = one["frozen"]["relative_error"]
        found.append(Goal(f"frozen edges, worst error: {one['task']}", error["largest"], 0.01))
        free = one["free"]["agreement"]["spearman"]
        found.append(Goal(f"free edges, Spearman: {one['task']}", free, 0.6, at_least=True))
    for one in facts["circuits"]:
        found.append(Goal(f"nodes of a faithful circuit: {one['task']}", one["enough"] or 1e9, 100))
        for size, top in (one.get("null") or {}).items():
            found.append(Goal(f"the null's 95th percentile at {size}: {one['task']}", top, 0.2))
    one = facts["cost"]
    found.append(Goal("attribution", one["attribution"] / one["forward"], 5, " forwards"))
    found.append(
        Goal("exact ablation ÷ attribution", one["exact"] / one["attribution"], 300, "×", True)
    )
    return found


def report(facts: dict[str, Any]) -> str:
    """Four tables."""
    keys = ("spearman", "pearson", "slope", "signs")
    rows = [
        [
            one["task"],
            one["baseline"],
            which,
            *(one["integrated"][which][key] for key in keys),
            one["gap"],
        ]
        for one in facts["nodes"]
        for which in ("top", "random")
    ]
    lines = [
        table(
            "Integrated gradients against exact ablation",
            ["task", "baseline", "nodes", *keys, "gap"],
            rows,
        )
    ]
    rows = [
        [one["task"], one["baseline"], *(one["gradient"]["top"][key] for key in keys)]
        for one in facts["nodes"]
    ]
    lines.append(table("Plain gradients against exact ablation", ["task", "baseline", *keys], rows))
    rows = [
        [
            one["task"],
            way,
            one[way]["agreement"]["n"],
            *(one[way]["agreement"][key] for key in keys),
            one[way]["gate_changes"],
            (one[way].get("relative_error") or {}).get("largest", "–"),
        ]
        for one in facts["edges"]
        for way in ("frozen", "direct", "free")
    ]
    lines.append(
        table(
            "Edges against interventions", ["task", "way", "n", *keys, "gates", "worst error"], rows
        )
    )
    for one in facts["circuits"]:
        title = (
            f"{one['task']}: {one['pairs']} pairs judged, F(M) {one['clean']:.2f}, F(∅) "
            f"{one['empty']:.2f}, enough at {one['enough']}, null {one.get('null')}"
        )
        columns = ["nodes", "errors", "faithfulness", "low", "high", "completeness"]
        lines.append(
            table(title, columns, [["–" if x is None else x for x in row] for row in one["points"]])
        )
    one = facts["cost"]
    lines.append(table("CPU seconds, one prompt", list(one), [list(one.values())]))
    return "\n".join(lines)
