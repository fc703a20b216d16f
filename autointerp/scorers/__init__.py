"""Ways to score a label, one file each.

`SCORERS` is the table; each entry's `score(label, windows, tools)` gives a `Scored`.
"""

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
from autointerp.scorers.records import Scorer

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
