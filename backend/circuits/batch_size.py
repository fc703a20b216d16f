"""Batch size of forward passes for circuits: the number of prompts that fit one pass when the
logits of a large vocabulary fill memory."""

from backend.circuits.circuit_prompts import CircuitPromptSet
from backend.model.language_model import LanguageModel

LOGITS_PER_PASS = 1 << 25
"""Maximum number of logits in one forward pass, which limits the batch size: 128 MB in float32, and
a few times that with gradients."""


def limit_batch_size(lm: LanguageModel, prompts: CircuitPromptSet, most: int) -> int:
    """Return the batch size, at most `most`, at which the logits of prompts of this length fit into
    one forward pass."""
    return max(1, min(most, LOGITS_PER_PASS // (lm.d_vocab * prompts.slot.shape[1])))
