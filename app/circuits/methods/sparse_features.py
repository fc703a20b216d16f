"""Sparse feature circuits over one prompt, many, or a task of the demo."""

from typing import TYPE_CHECKING, Any

from app.circuits.asked import CircuitRequest
from app.circuits.running import Tell
from backend.circuits.records import Circuit

if TYPE_CHECKING:
    from backend.circuits.circuit_prompts import CircuitPromptSet
    from backend.engine import LocalEngine


def run(engine: "LocalEngine", asked: CircuitRequest, tell: Tell) -> Circuit:
    """With its proof by ablation."""
    from backend.circuits.sparse_feature_circuit import (
        SparseFeatureSettings,
        find_sparse_feature_circuit,
    )

    given: Any = {"baseline": asked.baseline, "errors": asked.errors}  # checked by CircuitRequest
    settings = SparseFeatureSettings(nodes=asked.nodes, edges=asked.edges, seed=asked.seed, **given)
    return find_sparse_feature_circuit(
        engine, examples_of(engine, asked), asked.dictionaries, settings, tell
    )


def examples_of(engine: "LocalEngine", asked: CircuitRequest) -> "CircuitPromptSet":
    """The prompts, laid out, with their target."""
    from backend.circuits.circuit_prompts import lay_out_circuit_prompts, sample_task_prompts

    if asked.task:
        return sample_task_prompts(engine, asked.task, asked.n_prompts, seed=asked.seed)
    places: Any = asked.places or None  # checked by CircuitRequest
    return lay_out_circuit_prompts(
        engine, asked.cases, places, targets=asked.targets, against=asked.against
    )
