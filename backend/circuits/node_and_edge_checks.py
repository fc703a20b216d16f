"""Checks of a sparse feature circuit's nodes and edges: predicted effects against effects measured
by intervention.

A node is checked by exact ablation. An edge is checked in three runs with its source at the
baseline: *frozen* freezes attention patterns, norms and all other dictionaries, which checks the
arithmetic but is no causal proof; *direct* freezes only the other dictionaries; *free* freezes
nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backend.ablation.estimate_agreement import estimate_agreement
from backend.ablation.part_edits import canonical_hook
from backend.circuits.batch_size import limit_batch_size
from backend.circuits.circuit_prompts import CircuitPromptSet, restore_circuit_prompts
from backend.circuits.edge_weights import (
    KeptNodes,
    compute_edges_by_prompt,
    read_kept_nodes,
    weighted_node_value,
)
from backend.circuits.frozen_model import FrozenModel, freeze_model
from backend.circuits.node_baselines import DictionaryOnPrompts, NodeBaselines
from backend.circuits.node_effects import CountProgress
from backend.circuits.node_table import NodeTable
from backend.circuits.records import Circuit
from backend.circuits.segmented_forward import SegmentedForward, run_segmented_forward
from backend.circuits.single_node_ablation import ablate_single_nodes, build_ablation_changes
from backend.circuits.sparse_feature_circuit import FEWEST_TO_SPLIT, select_dictionaries
from backend.circuits.subset_encoder import encode_feature_subset
from backend.dictionaries.input_normalisation import NO_NORMALISATION
from backend.engine import LocalEngine
from backend.model.fast_forward import compose_edits
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError

CHECKED_NODES_LIMIT = 100
CHECKED_EDGES_LIMIT = 200
EDGE_CHECK_PROMPTS = 8
"""Maximum number of prompts on which the edges of a circuit are checked."""
FROZEN_PROMPTS = 2
CHECK_ROWS = 32
SMALL_EDGE_SHARE = 0.01
"""Fraction of the largest edge weight below which the check of an edge counts no relative error."""


def check_nodes(
    engine: LocalEngine,
    circuit: Circuit,
    ids: Sequence[str] = (),
    on_progress: CountProgress | None = None,
) -> dict[str, Any]:
    """Compare predicted and measured effects of a circuit's nodes (by default the strongest
    CHECKED_NODES_LIMIT) on the prompts on which the nodes were selected.

    Returns {"pairs": [(id, predicted, measured)], "agreement": {…}, "n_prompts"}. Raises InputError
    for a circuit of another method and for unknown node ids.
    """
    baselines, examples, table, known = restore_circuit_inputs(engine, circuit)
    predicted_effects = predict_node_effects(circuit)
    there = examples.slot.unique()
    wanted = [_find_node_row(known, one) for one in ids] or [
        row for one, row in known.items() if one in predicted_effects and table.slot[row] in there
    ][:CHECKED_NODES_LIMIT]
    for one, row in zip(ids, wanted, strict=False):
        if one not in predicted_effects or table.slot[row] not in there:
            raise InputError(
                f"{one} is at a token that cannot be ablated, or the circuit predicts no effect "
                "of it."
            )
    some = table.select(torch.tensor(wanted, dtype=torch.long))
    measured = ablate_single_nodes(
        engine.lm, baselines, examples, some.which, some.slot, some.feature, on_progress
    ).tolist()
    names = list(known)
    pairs = [
        (names[row], predicted_effects[names[row]], found)
        for row, found in zip(wanted, measured, strict=True)
    ]
    return {
        "pairs": pairs,
        "n_prompts": len(examples),
        "agreement": estimate_agreement([(a, b) for _, a, b in pairs]),
    }


def check_edges(
    engine: LocalEngine,
    circuit: Circuit,
    edges: Sequence[tuple[str, str]] = (),
    on_progress: CountProgress | None = None,
) -> dict[str, Any]:
    """Compare predicted and measured weights of a circuit's edges (by default the strongest
    CHECKED_EDGES_LIMIT) in the runs "frozen", "direct" and "free".

    Each run has {"pairs": [(source, target, predicted, measured)], "agreement", …}. "frozen" also
    has "relative_error" (median and largest over edges of at least SMALL_EDGE_SHARE of the largest)
    and "gate_changes", the number of edges that switch a feature on or off and are left out of the
    errors. It is None, with a "note", if the model cannot be frozen. Raises InputError as
    `check_nodes` does.
    """
    baselines, examples, table, known = restore_circuit_inputs(engine, circuit)
    asked = list(edges) or [(e.source, e.target) for e in circuit.edges[:CHECKED_EDGES_LIMIT]]
    goal = next((node.id for node in circuit.nodes if node.kind == "logit"), "")
    pairs = [
        (
            _find_node_row(known, source),
            len(table) if target == goal else _find_node_row(known, target),
        )
        for source, target in asked
    ]
    few = examples.select(slice(0, limit_batch_size(engine.lm, examples, EDGE_CHECK_PROMPTS)))
    found: dict[str, Any] = {
        "frozen": None,
        "n_prompts": len(few),
        "note": "",
        "means": "Change of the target through this edge when the source goes to its baseline",
    }
    for mode in ("direct", "free"):
        both = EdgeCheckRun(engine.lm, baselines, few, table, mode).compare(pairs, on_progress)
        found[mode] = summarize_edge_check(asked, both)
    loose = [d.name for d in baselines.dictionaries if d.norm.into is not NO_NORMALISATION.into]
    if loose:
        found["note"] = (
            f"{', '.join(loose)} normalize every token, which no run can freeze, so the "
            "frozen edges to them are correct only to first order."
        )
    try:
        found["frozen"] = _check_frozen_edges(engine.lm, baselines, few, table, pairs, asked)
    except InputError as bad:
        found["note"] = str(bad)
    return found


def predict_node_effects(circuit: Circuit) -> dict[str, float]:
    """Return by node id the change of the target that a circuit predicts when only that node goes
    to its baseline.

    Attribution graphs rank nodes by influence and store the signed change as well; traces and
    weight paths store what comes through a node, which is lost when it is ablated.
    """
    if isinstance(kept := circuit.facts.get("predicted"), Mapping):
        return {str(id): float(change) for id, change in kept.items()}
    sign = -1 if circuit.method in ("trace", "weights") else 1
    return {n.id: sign * n.effect for n in circuit.nodes if n.effect is not None}


def restore_circuit_inputs(
    engine: LocalEngine, circuit: Circuit
) -> tuple[NodeBaselines, CircuitPromptSet, NodeTable, dict[str, int]]:
    """Restore the inputs of a stored circuit: its baselines, the prompts on which nodes were
    selected, its node table, and the table row of each node id."""
    examples = restore_circuit_prompts(engine, circuit)
    if len(examples) >= FEWEST_TO_SPLIT:
        examples = examples.split_in_halves()[0]
    dictionaries = select_dictionaries(engine, circuit.dictionaries)
    assert circuit.baseline is not None, "a circuit with slots has a baseline"
    seed = int(circuit.facts.get("seed", 0))
    baselines = NodeBaselines(engine.lm, dictionaries, circuit.baseline, examples, seed)
    table, known = build_circuit_node_table(circuit, [one.name for one in dictionaries])
    return baselines, examples, table, known


def build_circuit_node_table(
    circuit: Circuit, names: Sequence[str]
) -> tuple[NodeTable, dict[str, int]]:
    """Convert the features and error terms of a stored circuit to a node table, restricted to the
    given dictionaries, with the row of each node id."""
    nodes = [
        node
        for node in circuit.nodes
        if node.kind in ("feature", "error") and node.dictionary in names
    ]
    columns_ = (
        torch.tensor([names.index(node.dictionary) for node in nodes]),
        torch.tensor([node.position or 0 for node in nodes]),
        torch.tensor([-1 if node.feature is None else node.feature for node in nodes]),
        torch.tensor([node.effect or 0.0 for node in nodes], dtype=torch.double),
        torch.tensor([node.value or 0.0 for node in nodes], dtype=torch.double),
        torch.ones(len(nodes), dtype=torch.bool),
    )
    return NodeTable(tuple(names), *columns_), {node.id: i for i, node in enumerate(nodes)}


def _find_node_row(known: Mapping[str, int], id: str) -> int:
    if id not in known:
        raise InputError(f"{id!r} is not a feature or error term of this circuit.")
    return known[id]


@dataclass(eq=False)
class EdgeCheckRun:
    """Run that predicts and measures edges of a sparse feature circuit with their sources at the
    baseline. Its mode freezes patterns, norms and other dictionaries (frozen), only the other
    dictionaries (direct), or nothing (free)."""

    lm: LanguageModel
    baselines: NodeBaselines
    examples: CircuitPromptSet
    table: NodeTable
    mode: str
    frozen_model: FrozenModel | None = None

    def compare(
        self, pairs: Sequence[tuple[int, int]], on_progress: CountProgress | None = None
    ) -> list[tuple[float, float, bool]]:
        """Check edges, given as pairs of source and target rows of the node table. Return for each
        the predicted and the measured change of the target, and whether a feature was switched on
        or off at the target."""
        some, n = self.examples, len(self.table)
        sites = self.baselines.read_dictionaries(some)
        kept = read_kept_nodes(self.lm, sites, some, self.table)
        predicted = torch.cat(
            [
                rows
                for _, rows in compute_edges_by_prompt(
                    self.lm, sites, some, kept, n, self.frozen_model
                )
            ]
        ).mean(1)
        sources = list(dict.fromkeys(source for source, _ in pairs))
        measured: dict[tuple[int, int], tuple[float, bool]] = {}
        with torch.no_grad():
            before = self._run(sites, 1, {})
            copies = max(1, limit_batch_size(self.lm, some, CHECK_ROWS) // len(some))
            for begin in range(0, len(sources), copies):
                now = sources[begin : begin + copies]
                after = self._run(sites, len(now), self._source_changes(sites, now))
                for copy, source in enumerate(now):
                    rows = slice(copy * len(some), (copy + 1) * len(some))
                    for _, target in (pair for pair in pairs if pair[0] == source):
                        key = (source, target)
                        measured[key] = self._measure_target_change(
                            sites, kept, target, before, after, rows
                        )
                if on_progress:
                    on_progress(begin + len(now), len(sources))
        return [(float(predicted[t, s]), *measured[s, t]) for s, t in pairs]

    def _source_changes(
        self, sites: Sequence[DictionaryOnPrompts], sources: Sequence[int]
    ) -> dict[int, Tensor]:
        """Return what is added at each dictionary's output when the source of each checked edge
        goes to its baseline, with one copy of the prompts for each source."""
        batch = len(self.examples)
        output_changes: dict[int, Tensor] = {}
        for copy, row in enumerate(sources):
            k = int(self.table.which[row])
            site = sites[k]
            gone = build_ablation_changes(
                site, [int(self.table.slot[row])], [int(self.table.feature[row])]
            )
            if k not in output_changes:
                output_changes[k] = gone.new_zeros(len(sources) * batch, *gone.shape[1:])
            output_changes[k][copy * batch : (copy + 1) * batch] = gone
        return output_changes

    def _run(
        self, sites: Sequence[DictionaryOnPrompts], copies: int, output_changes: dict[int, Tensor]
    ) -> SegmentedForward:
        if self.mode == "free":
            return run_freely(self.lm, sites, self.examples, copies, output_changes)
        return run_segmented_forward(
            self.lm, sites, self.examples, copies, self.frozen_model, output_changes
        )

    def _measure_target_change(
        self,
        sites: Sequence[DictionaryOnPrompts],
        kept: Sequence[KeptNodes],
        target: int,
        before: SegmentedForward,
        after: SegmentedForward,
        rows: slice,
    ) -> tuple[float, bool]:
        """Return the measured change of an edge's target, and whether its feature was switched on
        or off."""
        n = len(self.examples)
        first = slice(0, n)
        if target == len(self.table):
            return float((after.value[rows] - before.value[first]).mean()), False
        k = int(self.table.which[target])
        site, one = sites[k], kept[k]
        j = int((one.rows == target).nonzero()[0, 0])
        ends = []
        for tape, part in ((before, first), (after, rows)):
            ends.append(
                (
                    _read_node_values(site, one, tape, k, part),
                    _active_mask(site, one, tape, k, part, j),
                )
            )
        (old, had), (new, has) = ends
        moved = weighted_node_value(site, one, j, new, first) - weighted_node_value(
            site, one, j, old, first
        )
        return float(moved) / n, not torch.equal(had, has)


def _read_node_values(
    site: DictionaryOnPrompts, one: KeptNodes, tape: SegmentedForward, k: int, rows: slice
) -> tuple[Tensor, Tensor | None]:
    """Return the activations of a dictionary's kept nodes, and the error terms if one is kept, in
    one run of an edge check."""
    d, x = site.dictionary, tape.x[k][rows]
    errors = bool((one.column < 0).any())
    return encode_feature_subset(d, one.ids, x), tape.h[k][rows] - d.reconstruct(
        x
    ) if errors else None


def _active_mask(
    site: DictionaryOnPrompts, one: KeptNodes, tape: SegmentedForward, k: int, rows: slice, j: int
) -> Tensor:
    """Return the mask of the features that are active at a target node's tokens in one run of an
    edge check: the node's own feature, or all features for an error term."""
    x = tape.x[k][rows]
    here = site.slot == int(one.slot[j])
    column = int(one.column[j])
    if column < 0:
        return (site.dictionary.encode(x) != 0) & here[..., None]
    return (encode_feature_subset(site.dictionary, one.ids[column : column + 1], x) != 0) & here[
        ..., None
    ]


def run_freely(
    lm: LanguageModel,
    sites: Sequence[DictionaryOnPrompts],
    some: CircuitPromptSet,
    copies: int,
    output_changes: Mapping[int, Tensor],
) -> SegmentedForward:
    """Run the "free" check of edges: add `output_changes` with nothing frozen, and record the same
    activations as `run_segmented_forward`."""
    tape = SegmentedForward([], torch.empty(0))
    made: dict[str, list[Any]] = {}
    for k, site in enumerate(sites):
        d = site.dictionary
        reads, writes = canonical_hook(lm, d.hook_name), canonical_hook(lm, d.hook_out)

        def listen(h: Tensor, k: int = k, d=d) -> Tensor:
            tape.x[k] = lm.process(d.hook_name, h, d.processing).to(d.coder.W_dec)
            return h

        def write(h: Tensor, k: int = k, d=d) -> Tensor:
            tape.h[k] = h.to(d.coder.W_dec)
            return h + output_changes[k].to(h.dtype) if k in output_changes else h

        made.setdefault(reads, []).append(listen)
        made.setdefault(writes, []).append(write)
    edits = {hook: compose_edits(several) for hook, several in made.items()}
    tape.value = some.batch.target(lm.logits(some.batch.prompts.tokens.repeat(copies, 1), edits))
    return tape


def _check_frozen_edges(
    lm: LanguageModel,
    baselines: NodeBaselines,
    examples: CircuitPromptSet,
    table: NodeTable,
    pairs: Sequence[tuple[int, int]],
    asked: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """Check edges with patterns and norms frozen, one prompt at a time because they are frozen to
    the values of one prompt."""
    found: list[list[tuple[float, float, bool]]] = []
    for row in range(min(len(examples), FROZEN_PROMPTS)):
        one = examples.select(slice(row, row + 1))
        frozen_model = freeze_model(lm, one.batch.prompts.tokens)
        found.append(EdgeCheckRun(lm, baselines, one, table, "frozen", frozen_model).compare(pairs))
    flat = [each for one in found for each in one]
    return {
        **summarize_edge_check([pair for _ in found for pair in asked], flat),
        "relative_error": summarize_relative_errors(flat),
    }


def summarize_relative_errors(both: Sequence[tuple[float, float, bool]]) -> dict[str, Any] | None:
    """Summarize the relative errors of checked edges (predicted, measured, gate changed): median
    and largest over edges that switched no feature on or off and have at least SMALL_EDGE_SHARE of
    the largest weight."""
    largest = max((abs(predicted) for predicted, *_ in both), default=0.0)
    ranked = sorted(
        abs(measured - predicted) / abs(predicted)
        for predicted, measured, crossed in both
        if not crossed and abs(predicted) > SMALL_EDGE_SHARE * largest
    )
    if not ranked:
        return None
    return {"median": ranked[len(ranked) // 2], "largest": ranked[-1], "n": len(ranked)}


def summarize_edge_check(
    asked: Sequence[tuple[str, str]], both: Sequence[tuple[float, float, bool]]
) -> dict[str, Any]:
    """Summarize one run of an edge check as a dict: the pairs of predicted and measured changes,
    their agreement, and the number of edges that switched a feature on or off (`gate_changes`)."""
    return {
        "pairs": [(*ends, p, m) for ends, (p, m, _) in zip(asked, both, strict=True)],
        "agreement": estimate_agreement([(p, m) for p, m, _ in both]),
        "gate_changes": sum(crossed for *_, crossed in both),
    }
