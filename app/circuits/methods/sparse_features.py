"""Sparse feature circuits over one prompt, many, or a task of the demo."""

from typing import TYPE_CHECKING, Any

from app.circuits.asked import Asked
from app.circuits.running import Tell
from backend.circuits.records import Circuit

if TYPE_CHECKING:
    from backend.circuits.examples import Examples
    from backend.engine import LocalEngine


def run(engine: "LocalEngine", asked: Asked, tell: Tell) -> Circuit:
    """With its proof by ablation."""
    from backend.circuits.sparse_features import Settings, sparse_features

    given: Any = {"baseline": asked.baseline, "errors": asked.errors}  # checked by Asked
    settings = Settings(nodes=asked.nodes, edges=asked.edges, seed=asked.seed, **given)
    return sparse_features(engine, examples_of(engine, asked), asked.dictionaries, settings, tell)


def examples_of(engine: "LocalEngine", asked: Asked) -> "Examples":
    """The prompts, laid out, with their target."""
    from backend.circuits.examples import from_task, gather

    if asked.task:
        return from_task(engine, asked.task, asked.n_prompts, seed=asked.seed)
    places: Any = asked.places or None  # checked by Asked
    return gather(engine, asked.cases, places, targets=asked.targets, against=asked.against)
