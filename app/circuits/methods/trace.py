"""Patch-free traces from a next token, a feature or an attention score, for one prompt."""

from typing import TYPE_CHECKING

from app.circuits.asked import CircuitRequest
from app.circuits.methods.reading import target_of, text_of
from app.circuits.running import Tell
from app.circuits.starts import FeatureAt, ScoreAt, parse
from backend.circuits.records import Circuit
from backend.engine_protocol import TokenizedText
from feature_store.errors import InputError, pick_by_name

if TYPE_CHECKING:
    from backend.circuits.patch_free_tracing import TraceStart
    from backend.engine import LocalEngine


def run(engine: "LocalEngine", asked: CircuitRequest, tell: Tell) -> Circuit:
    """Down to features of earlier modules; the likeliest next token where nothing is named."""
    from backend.circuits.patch_free_tracing import select_cut_dictionaries, trace_to_sources

    text = text_of(engine, asked.cases[0])
    used = [engine.dictionaries[name] for name in asked.dictionaries or engine.dictionaries]
    start = start_of(engine, asked, text)
    return trace_to_sources(
        engine.lm,
        select_cut_dictionaries(engine.lm, used),
        text,
        start,
        known=used,
        nodes=asked.nodes,
        on_progress=lambda done, total: tell(done, total, "tracing features"),
    )


def prove(engine: "LocalEngine", asked: CircuitRequest, circuit: Circuit, tell: Tell) -> Circuit:
    """Nodes behind a next token, run for real; of other starts no share is told."""
    from backend.circuits.patch_free_tracing import LogitStart
    from backend.circuits.single_prompt_faithfulness import measure_single_prompt_faithfulness

    text = text_of(engine, asked.cases[0])
    start = start_of(engine, asked, text)
    if not isinstance(start, LogitStart):
        return circuit
    return measure_single_prompt_faithfulness(
        engine, circuit, text, start.answers, start.against, on_progress=tell
    )


def start_of(engine: "LocalEngine", asked: CircuitRequest, text: TokenizedText) -> "TraceStart":
    """As the tracer takes it."""
    from backend.circuits.patch_free_tracing import AttentionScoreStart, FeatureStart, LogitStart

    if not asked.start:
        answers, against = target_of(engine, asked, asked.cases[0])
        if not answers:
            answers = [engine.predict_next_tokens(text, len(text.token_ids) - 1, 1)[0][0]]
        return LogitStart(tuple(answers), tuple(against))
    found = parse(asked.start)
    if isinstance(found, ScoreAt):
        return AttentionScoreStart(found.layer, found.head, found.query, found.key)
    return FeatureStart(found.feature, position_of(engine, found, text))


def position_of(engine: "LocalEngine", at: FeatureAt, text: TokenizedText) -> int:
    """The named position; else the last where the feature is active."""
    pick_by_name("dictionary", at.feature.dictionary, engine.dictionaries)
    if at.position is not None:
        return at.position
    name = at.feature.dictionary
    active = engine.compute_activations(text, [name])[name].by_position(at.feature.index)
    counted = [position for position in active if text.counted[position]]
    if not counted:
        raise InputError(f"{at.feature} is not active on this prompt: choose another feature.")
    return max(counted)
