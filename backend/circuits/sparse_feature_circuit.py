"""Sparse feature circuits (Marks et al. 2024, arXiv:2403.19647), from the effects of nodes to the
circuit record.

1. Effects of every feature and error term of all dictionaries, on one half of the prompts.
2. The strongest nodes, and the direct edges between them and to the target.
3. On the other half: faithfulness and completeness by ablation over the number of nodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from backend.ablation.part_edits import canonical_hook
from backend.circuits.circuit_prompts import CircuitPromptSet
from backend.circuits.complement_ablation import ComplementAblation
from backend.circuits.edge_stability import bootstrap_edge_stability
from backend.circuits.edge_weights import EdgeWeights, compute_edge_weights
from backend.circuits.effect_refinement import (
    MOST_INTEGRATION_PATHS,
    RefinedEffects,
    refine_node_effects,
)
from backend.circuits.faithfulness import (
    RANDOM_SETS,
    FaithfulnessCurves,
    StageProgress,
    measure_faithfulness_curves,
)
from backend.circuits.logit_targets import describe_logit_cap
from backend.circuits.node_baselines import NodeBaselines
from backend.circuits.node_effects import INTEGRATION_PATHS, AttributionMethod
from backend.circuits.node_table import NodeTable, log_spaced_sizes
from backend.circuits.records import (
    BaselineKind,
    Circuit,
    CircuitEdge,
    CircuitNode,
    ErrorTermMode,
    error_id,
    feature_id,
    logit_id,
)
from backend.dictionaries.base import Dictionary
from backend.engine import LocalEngine
from backend.features.direct_feature_attribution import layer_of_hook
from feature_store.errors import InputError, pick_by_name
from feature_store.hook_sites import check_single_sites
from feature_store.number_ranges import describe_layers

METHOD = "sparse-features"
FEWEST_TO_SPLIT = 20
"""Number of prompts from which on the nodes of a sparse feature circuit are selected on one half
and evaluated on the other."""
MOST_CIRCUIT_NODES = 2_000
MOST_EDGE_PROMPTS = 64
"""Maximum number of prompts over which the edges of a sparse feature circuit are averaged."""
EDGE_NUMBERS = 1 << 27
"""Maximum number of single-prompt edge weights held at once: 512 MB. Graphs of over 1,400 nodes use
fewer prompts."""
CAPPED_TARGET_NOTE = (
    "the target uses capped logits, and edges follow the slope of the cap at the "
    "prompts, so they are approximate."
)
INACCURATE_EFFECTS_NOTE = (
    "The estimated effects of the strongest nodes do not agree with their exact "
    "ablation (Spearman of at least 0.95, slope of 0.9 to 1.1): use the measured "
    "values."
)
EFFECT_MEANING = (
    "Change of the target when only this node goes to its baseline, estimated from "
    "gradients: negative if the target needs the node."
)


@dataclass(frozen=True)
class SparseFeatureSettings:
    """Settings of a sparse feature circuit: baseline, attribution method, numbers of nodes, edges,
    paths and random sets."""

    baseline: BaselineKind = "zero"
    method: AttributionMethod = "integrated"
    nodes: int = 100
    edges: int = 5_000
    errors: ErrorTermMode = "count"
    """Treatment of error terms in the figures of the returned circuit; the curves have all
    three."""
    paths: int = INTEGRATION_PATHS
    """Number of paths of integrated gradients at first, before the effects are checked."""
    most_paths: int = MOST_INTEGRATION_PATHS
    """Maximum number of paths of integrated gradients, up to which they are increased until effects
    agree with exact ablation."""
    draws: int = RANDOM_SETS
    """Number of random sets of nodes in the null of faithfulness; 0: none."""
    seed: int = 0

    def check(self) -> "SparseFeatureSettings":
        """Check the settings of a sparse feature circuit and return them; raises InputError for
        sizes that are out of range."""
        pick_by_name("method of attribution", self.method, {"gradient": "", "integrated": ""})
        pick_by_name("way with error terms", self.errors, {"count": "", "keep": "", "remove": ""})
        if not 1 <= self.nodes <= MOST_CIRCUIT_NODES:
            raise InputError(
                f"A circuit can have 1 to {MOST_CIRCUIT_NODES:,} nodes, not {self.nodes:,}."
            )
        if self.edges < 0 or self.paths < 1 or self.draws < 0:
            raise InputError(
                "The numbers of edges and draws must be at least 0, and the number of paths at "
                "least 1."
            )
        return self


def find_sparse_feature_circuit(
    engine: LocalEngine,
    examples: CircuitPromptSet,
    names: Sequence[str] = (),
    settings: SparseFeatureSettings | None = None,
    on_progress: StageProgress | None = None,
) -> Circuit:
    """Find the sparse feature circuit over `examples`; all dictionaries take part unless `names`
    are given. Raises InputError without dictionaries, for two that write to one hook point, and for
    a baseline that these prompts do not allow."""
    settings = (settings or SparseFeatureSettings()).check()
    dictionaries = select_dictionaries(engine, names)
    halves = len(examples) >= FEWEST_TO_SPLIT
    first, second = examples.split_in_halves() if halves else (examples, examples)
    baselines = NodeBaselines(engine.lm, dictionaries, settings.baseline, first, settings.seed)
    found = refine_node_effects(
        engine.lm,
        baselines,
        first,
        settings.method,
        settings.paths,
        settings.most_paths,
        _report_stage(on_progress, "effects of nodes"),
    )
    table = found.table
    kept = table.select(torch.arange(min(settings.nodes, len(table))))
    few = first.select(slice(0, count_edge_prompts(len(kept))))
    between = compute_edge_weights(
        engine.lm, baselines, few, kept, _report_stage(on_progress, "edges")
    )
    ablation = ComplementAblation(engine.lm, baselines, second)
    size = len(kept)
    curves = measure_faithfulness_curves(
        ablation,
        table,
        [*log_spaced_sizes(len(table)), size],
        nulls=[size],
        errors=settings.errors,
        draws=settings.draws,
        seed=settings.seed,
        on_progress=on_progress,
    )
    return _build_circuit(engine, examples, dictionaries, settings, found, kept, between, curves)


def select_dictionaries(engine: LocalEngine, names: Sequence[str]) -> list[Dictionary]:
    """Select the dictionaries of a sparse feature circuit and sort them in the model's order.
    Raises InputError for none, and for two that write to one hook point."""
    found = [pick_by_name("dictionary", name, engine.dictionaries) for name in names]
    found = found or list(engine.dictionaries.values())
    if not found:
        raise InputError("There is no dictionary: a sparse feature circuit needs at least one.")
    check_single_sites(found, "Sparse feature circuits")
    taken: dict[str, str] = {}
    for one in found:
        at = canonical_hook(engine.lm, one.hook_out)
        if at in taken:
            raise InputError(
                f"{taken[at]} and {one.name} both write to {one.hook_out}: choose one of them."
            )
        taken[at] = one.name
    return sorted(found, key=_order_in_model)


def _order_in_model(one: Dictionary) -> tuple[int, int]:
    """Return the key by which the dictionaries of a sparse feature circuit are sorted: layer, then
    part of the layer (stream, attention, MLP)."""
    layer = layer_of_hook(one.hook_out)
    parts = ("resid_pre", "attn", "resid_mid", "mlp")
    inside = next((i for i, part in enumerate(parts) if part in one.hook_out), len(parts))
    return (-1 if layer is None else layer, inside)


def _prompt_count_text(n: int) -> str:
    return "prompt" if n == 1 else f"{n} prompts"


def _format_count(n: int) -> str:
    """Format a count in a note of a sparse feature circuit with thin spaces between thousands, as
    12 345."""
    return f"{n:,}".replace(",", "\u202f")


def _report_stage(on_progress: StageProgress | None, what: str):
    return None if on_progress is None else lambda done, total: on_progress(done, total, what)


def _build_circuit(
    engine: LocalEngine,
    examples: CircuitPromptSet,
    dictionaries: Sequence[Dictionary],
    settings: SparseFeatureSettings,
    found: RefinedEffects,
    kept: NodeTable,
    between: EdgeWeights,
    curves: FaithfulnessCurves,
) -> Circuit:
    target = describe_target(examples)
    layers = {one.name: layer_of_hook(one.hook_out) or 0 for one in dictionaries}
    measured = [*found.measured.tolist(), *[None] * len(kept)]
    nodes = [_build_node(kept, i, layers, examples, measured[i]) for i in range(len(kept))]
    goal = CircuitNode(
        logit_id("target", None),
        "logit",
        engine.lm.n_layers,
        label=target,
        value=curves.clean.value,
    )
    edges = _build_edges(between, [*nodes, goal], settings.edges, settings.seed)
    full_point = curves.point_at(len(kept), settings.errors)
    return Circuit(
        method=METHOD,
        model=engine.lm.name,
        prompts=examples.prompts,
        target=target,
        nodes=(*nodes, goal),
        edges=edges,
        baseline=settings.baseline,
        dictionaries=tuple(one.name for one in dictionaries),
        slots=examples.names,
        effect_means=EFFECT_MEANING,
        clean=curves.clean,
        empty=curves.empty,
        faithfulness=curves.figures.get(len(kept)),
        completeness=full_point and full_point.completeness,
        error_share={one.name: one.error_share for one in found.found},
        curves=curves.points,
        effect_check=found.check,
        facts=_collect_facts(examples, settings, found, between.n),
        notes=_write_notes(engine, examples, dictionaries, settings, found, kept, edges, curves),
    )


def _build_node(
    table: NodeTable,
    i: int,
    layers: Mapping[str, int],
    examples: CircuitPromptSet,
    measured: float | None,
) -> CircuitNode:
    name, feature = table.names[int(table.which[i])], int(table.feature[i])
    position = None if examples.summed else int(table.slot[i])
    is_error = feature < 0
    return CircuitNode(
        error_id(name, position) if is_error else feature_id(name, feature, position),
        "error" if is_error else "feature",
        layers[name],
        position,
        name,
        None if is_error else feature,
        float(table.effect[i]),
        float(table.value[i]),
        exact=measured,
    )


def count_edge_prompts(nodes: int) -> int:
    """Return the number of prompts over which the edges of a sparse feature circuit with this
    number of nodes are averaged."""
    return max(1, min(MOST_EDGE_PROMPTS, EDGE_NUMBERS // (nodes + 1) ** 2))


def _build_edges(
    between: EdgeWeights, nodes: Sequence[CircuitNode], most: int, seed: int
) -> tuple[CircuitEdge, ...]:
    """Return the strongest edges of the sparse feature circuit, each with its stability over
    prompts."""
    flat = between.mean.flatten()
    strong = flat.abs().topk(min(most, len(flat))).indices
    strong = strong[flat[strong] != 0]
    n = between.mean.shape[1]
    each = between.by_prompt.flatten(1)[:, strong].double().numpy()
    held = bootstrap_edge_stability(each, seed=seed)
    shares = [None] * len(strong) if held is None else held.tolist()
    return tuple(
        CircuitEdge(nodes[at % n].id, nodes[at // n].id, weight, share)
        for at, weight, share in zip(strong.tolist(), flat[strong].tolist(), shares, strict=True)
    )


def describe_target(examples: CircuitPromptSet) -> str:
    """Describe the target metric of a sparse feature circuit in words, such as "logit: ' Mary' - '
    John'"."""
    target, shown = examples.batch.target, examples.prompts
    words = {(one.answer, one.against) for one in shown}
    answer, against = next(iter(words)) if len(words) == 1 else ("answer", "wrong answer")
    several = any(len(ids) > 1 for ids in target.answers)
    quoted = [repr(text) if len(words) == 1 else text for text in (answer, against)]
    if target.against is None:
        return f"log probability of {quoted[0]}"
    what = "log of summed probabilities" if several else "logit"
    return f"{what}: {quoted[0]} - {quoted[1]}"


def _collect_facts(
    examples: CircuitPromptSet,
    settings: SparseFeatureSettings,
    found: RefinedEffects,
    edges_on: int,
) -> dict[str, Any]:
    target = examples.batch.target
    lengths = [len(one.ids) for one in examples.prompts]
    slots = examples.slot.tolist()
    return {
        "attribution": settings.method,
        "paths": found.check.paths,
        "seed": settings.seed,
        "candidates": len(found.table),
        "errors": settings.errors,
        "gap": {one.name: one.gap for one in found.found},
        "moved": {one.name: one.moved for one in found.found},
        "chosen_on": len(examples) // 2 if len(examples) >= FEWEST_TO_SPLIT else len(examples),
        "edges_on": edges_on,
        "places": "sum" if examples.summed else "slots",
        "slot_of": [row[:n] for row, n in zip(slots, lengths, strict=True)],
        "answers": [list(ids) for ids in target.answers],
        "against": None if target.against is None else [list(ids) for ids in target.against],
    }


def _write_notes(
    engine: LocalEngine,
    examples: CircuitPromptSet,
    dictionaries: Sequence[Dictionary],
    settings: SparseFeatureSettings,
    found: RefinedEffects,
    kept: NodeTable,
    edges: Sequence[CircuitEdge],
    curves: FaithfulnessCurves,
) -> tuple[str, ...]:
    """Return the notes of a sparse feature circuit on what it does not cover and what was cut."""
    notes = describe_logit_cap(engine.lm, CAPPED_TARGET_NOTE)
    if len(examples) < FEWEST_TO_SPLIT:
        notes.append(
            "Nodes are selected and evaluated on the same "
            f"{_prompt_count_text(len(examples))}, so the figures are optimistic. From "
            f"{FEWEST_TO_SPLIT} prompts on, one half selects and the other evaluates."
        )
    covered = {layer_of_hook(one.hook_out) for one in dictionaries}
    bare = [layer for layer in range(engine.lm.n_layers) if layer not in covered]
    if bare:
        free = describe_layers(bare)
        notes.append(f"Not ablated, because they have no dictionary: {free}.")
    if not found.check.reached:
        notes.append(INACCURATE_EFFECTS_NOTE)
    if len(kept) < len(found.table):
        few, all_ = _format_count(len(kept)), _format_count(len(found.table))
        notes.append(f"The strongest {few} of {all_} nodes by |effect|.")
    if len(edges) == settings.edges:
        notes.append(f"The strongest {_format_count(settings.edges)} edges; there are more.")
    if not curves.is_defined:
        notes.append(
            "The whole model is not clearly better than the empty circuit (3 standard "
            "errors), so faithfulness is not defined."
        )
    elif not settings.draws:
        notes.append("Faithfulness is not given, because no random sets were requested.")
    if settings.errors == "keep":
        notes.append("Error terms outside the graph are kept, and faithfulness depends on them.")
    return tuple(notes)
