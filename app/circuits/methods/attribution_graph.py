"""Attribution graphs through transcoders, for one prompt."""

from typing import TYPE_CHECKING

from app.circuits.asked import CircuitRequest
from app.circuits.methods.reading import target_of, text_of
from app.circuits.running import Tell
from backend.circuits.records import Circuit

if TYPE_CHECKING:
    from backend.engine import LocalEngine


def run(engine: "LocalEngine", asked: CircuitRequest, tell: Tell) -> Circuit:
    """The likeliest next tokens together where no target is named."""
    from backend.circuits.attribution_graph_circuit import find_attribution_circuit

    text = text_of(engine, asked.cases[0])
    answers, against = target_of(engine, asked, asked.cases[0])
    used = [engine.dictionaries[name] for name in asked.dictionaries or engine.dictionaries]
    return find_attribution_circuit(
        engine.lm,
        used,
        text,
        answers=answers,
        against=against,
        on_progress=lambda done, total: tell(done, total, "tracing features"),
    )


def prove(engine: "LocalEngine", asked: CircuitRequest, circuit: Circuit, tell: Tell) -> Circuit:
    """Its nodes run for real."""
    from backend.circuits.single_prompt_faithfulness import measure_single_prompt_faithfulness

    text = text_of(engine, asked.cases[0])
    return measure_single_prompt_faithfulness(
        engine, circuit, text, *target_of(engine, asked, asked.cases[0]), on_progress=tell
    )
