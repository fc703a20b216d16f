"""Session for one stored circuit: evaluates any part of it by ablation while a person prunes it on
the Circuits page."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from backend.circuits.circuit_prompts import restore_circuit_prompts
from backend.circuits.complement_ablation import ComplementAblation
from backend.circuits.direct_effect_checks import check_direct_edges
from backend.circuits.faithfulness import measure_node_set, measure_node_set_with_null
from backend.circuits.node_and_edge_checks import build_circuit_node_table, check_edges, check_nodes
from backend.circuits.node_baselines import PROMPTS_READ_AT_ONCE, NodeBaselines
from backend.circuits.node_table import NodeTable
from backend.circuits.records import Circuit, ErrorTermMode, FaithfulnessPoint
from backend.circuits.single_prompt_faithfulness import (
    append_other_active_nodes,
    freeze_complement_ablation,
)
from backend.circuits.sparse_feature_circuit import FEWEST_TO_SPLIT, METHOD, select_dictionaries
from backend.circuits.subcircuit_figures import SubcircuitFigures
from backend.engine import LocalEngine
from feature_store.errors import InputError

SESSION_PROMPTS = 8
"""Maximum number of evaluation prompts in a circuit session: few enough that 200 random sets on
each take no longer than a person waits."""
RANDOM_SET_PROMPTS = 32
"""Number of prompts of a circuit session from whose active nodes random sets are drawn."""


class CircuitSession:
    """Session that keeps a circuit's prompts, baselines and recorded activations between
    evaluations of its parts."""

    def __init__(self, engine: LocalEngine, circuit: Circuit) -> None:
        self.engine = engine
        self.circuit = circuit

    def measure(self, ids: Sequence[str]) -> SubcircuitFigures:
        """Measure faithfulness of these nodes with its null, and their curve points with error
        terms counted, kept and removed, on at most SESSION_PROMPTS of the prompts that evaluated
        the whole circuit; also with patterns and norms frozen if the whole circuit was evaluated in
        this way.

        Raises InputError for a circuit that cannot be run again.
        """
        ablation, table, known = self._inputs
        member = torch.zeros(len(table), dtype=torch.bool)
        member[[known[id] for id in ids if id in known]] = True
        point, figure = measure_node_set_with_null(ablation, table, member)
        points: dict[ErrorTermMode, FaithfulnessPoint] = {"count": point}
        for mode in ("keep", "remove"):
            points[mode] = measure_node_set(ablation, table, member, mode)
        frozen = (
            measure_node_set_with_null(self._frozen_ablation, table, member)[1]
            if self.circuit.held
            else None
        )
        return SubcircuitFigures(points, figure, frozen)

    def check_nodes(self, ids: Sequence[str] = ()) -> dict[str, Any]:
        """Check nodes of this session's circuit by exact ablation, as
        `node_and_edge_checks.check_nodes` does."""
        return check_nodes(self.engine, self.circuit, ids)

    def check_edges(self, edges: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
        """Check edges of this session's circuit by intervention: with `check_edges` for a sparse
        feature circuit, and otherwise as direct effects with `check_direct_edges`."""
        check = check_edges if self.circuit.method == METHOD else check_direct_edges
        return check(self.engine, self.circuit, edges)

    @cached_property
    def _frozen_ablation(self) -> ComplementAblation:
        return freeze_complement_ablation(self._inputs[0])

    @cached_property
    def _inputs(self) -> tuple[ComplementAblation, NodeTable, dict[str, int]]:
        circuit, engine = self.circuit, self.engine
        if circuit.baseline is None:
            raise InputError(
                f"Circuits of the method {circuit.method} have no baseline, so their nodes "
                "cannot be ablated."
            )
        examples = restore_circuit_prompts(engine, circuit)
        first, second = examples, examples
        if len(examples) >= FEWEST_TO_SPLIT:
            first, second = examples.split_in_halves()
        dictionaries = select_dictionaries(engine, circuit.dictionaries)
        seed = int(circuit.facts.get("seed", 0))
        baselines = NodeBaselines(engine.lm, dictionaries, circuit.baseline, first, seed)
        table, known = build_circuit_node_table(circuit, [one.name for one in dictionaries])
        sources = first.select(slice(0, RANDOM_SET_PROMPTS)).iterate_blocks(PROMPTS_READ_AT_ONCE)
        table = append_other_active_nodes(
            table, [site for some in sources for site in baselines.read_dictionaries(some)]
        )
        return (
            ComplementAblation(engine.lm, baselines, second.select(slice(0, SESSION_PROMPTS))),
            table,
            known,
        )
