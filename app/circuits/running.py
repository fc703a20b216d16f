"""Finding a circuit with a model at hand: the road of the job and of the command."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from app.circuits.asked import CircuitRequest
from app.circuits.methods import METHODS
from backend.circuits.records import Circuit
from feature_store.circuit_graphs import NEVER_ABLATED
from feature_store.errors import InputError, pick_by_name

if TYPE_CHECKING:
    from backend.engine import LocalEngine

Tell = Callable[[int, int, str], None]
"""Hears (done, total, note); may raise to stop."""


def find(engine: "LocalEngine", asked: CircuitRequest, tell: Tell) -> Circuit:
    """The circuit, within its budget. InputError for what cannot be found."""
    asked.check()
    for name in asked.dictionaries:
        pick_by_name("dictionary", name, engine.dictionaries)
    if METHODS[asked.method].baseline:
        check_pairs(engine, asked)
    method = importlib.import_module(METHODS[asked.method].module)
    found = within(method.run(engine, asked, tell), asked.nodes, asked.edges)
    return method.prove(engine, asked, found, tell) if METHODS[asked.method].proof else found


def check_pairs(engine: "LocalEngine", asked: CircuitRequest) -> None:
    """InputError, with the tokens of both, where a corrupt prompt is not as long as its clean."""
    from backend.circuits.prompt_tokens import token_texts

    for number, case in enumerate(asked.cases, 1):
        if not case.pair or case.tokens:
            continue
        both = [
            token_texts(engine.lm.tokenizer, engine.read(text).token_ids)
            for text in (case.prompt, case.pair)
        ]
        if len(both[0]) != len(both[1]):
            clean, corrupt = (" ".join(f"[{piece}]" for piece in found) for found in both)
            raise InputError(
                f"Prompt {number} has {len(both[0])} tokens and its corrupt twin {len(both[1])}; "
                f"make them equally long. Clean: {clean}. Corrupt: {corrupt}."
            )


def within(circuit: Circuit, nodes: int, edges: int) -> Circuit:
    """The strongest nodes and edges that the budget has room for; a note says what was cut.

    Tokens and logits cost nothing, and stay.
    """
    judged = [node for node in circuit.nodes if node.kind not in NEVER_ABLATED]
    kept = {node.id for node in judged[:nodes]} | {
        node.id for node in circuit.nodes if node.kind in NEVER_ABLATED
    }
    inside = [edge for edge in circuit.edges if edge.source in kept and edge.target in kept]
    cut = []
    if len(judged) > nodes:
        cut.append(f"the strongest {nodes:,} of {len(judged):,} nodes")
    if len(inside) > edges:
        cut.append(f"the strongest {edges:,} of {len(inside):,} edges between them")
    if not cut:
        return circuit
    note = f"Cut to the budget: {' and '.join(cut)}. What is pruned is not counted in the graph."
    return replace(
        circuit,
        nodes=tuple(node for node in circuit.nodes if node.id in kept),
        edges=tuple(inside[:edges]),
        notes=(*circuit.notes, note),
    )
