"""Scorers: ways to score the explanation (label) of a feature, one per file, each with an entry in
the table SCORERS. Every entry's `score(label, windows, tools)` returns a `LabelScore`."""

from autointerp.scorers import (
    detection,
    embedding,
    fuzzing,
    generation,
    intervention,
    intruder,
    predicted_logits,
    simulation,
    surprisal,
)
from autointerp.scorers.scorer_interface import Scorer

SCORERS: dict[str, Scorer] = {
    "detection": detection.SCORER,
    "fuzzing": fuzzing.SCORER,
    "simulation": simulation.SCORER,
    "surprisal": surprisal.SCORER,
    "embedding": embedding.SCORER,
    "intruder": intruder.SCORER,
    "generation": generation.SCORER,
    "intervention": intervention.SCORER,
    "predicted-logits": predicted_logits.SCORER,
}
