"""How many prompts go through the model at once: logits of large vocabularies fill memory."""

from backend.circuits.circuit_prompts import CircuitPromptSet
from backend.model.language_model import LanguageModel

LOGITS_PER_PASS = 1 << 25
"""Of one pass: 128 MB in float32, a few times that with its derivative."""


def limit_batch_size(lm: LanguageModel, some: CircuitPromptSet, most: int) -> int:
    """Rows of the prompts' length that one pass may hold, `most` at most."""
    return max(1, min(most, LOGITS_PER_PASS // (lm.d_vocab * some.slot.shape[1])))
