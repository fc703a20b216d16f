"""The strongest paths in the weights toward a next token or a feature, for one prompt."""

from typing import TYPE_CHECKING

from app.circuits.asked import CircuitRequest
from app.circuits.methods.reading import text_of
from app.circuits.methods.trace import prove, start_of
from app.circuits.running import Tell
from backend.circuits.records import Circuit
from feature_store.errors import InputError

__all__ = ["prove", "run"]

if TYPE_CHECKING:
    from backend.engine import LocalEngine


def run(engine: "LocalEngine", asked: CircuitRequest, tell: Tell) -> Circuit:
    """Through transcoders and heads; the likeliest next token where nothing is named."""
    from backend.circuits.patch_free_tracing import AttentionScoreStart
    from backend.circuits.weight_paths_circuit import build_weight_paths_circuit

    text = text_of(engine, asked.cases[0])
    start = start_of(engine, asked, text)
    if isinstance(start, AttentionScoreStart):
        raise InputError(
            "weights explains next tokens and features; an attention score is explained by trace."
        )
    used = [engine.dictionaries[name] for name in asked.dictionaries or engine.dictionaries]
    return build_weight_paths_circuit(
        engine.lm,
        used,
        text,
        start,
        on_progress=lambda done, total: tell(done, total, "following paths"),
    )
