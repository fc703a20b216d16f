"""How many prompts go through the model at once: logits of large vocabularies fill memory."""

from backend.circuits.examples import Examples
from backend.lm import Lm

LOGITS = 1 << 25
"""Of one pass: 128 MB in float32, a few times that with its derivative."""


def rows_at_once(lm: Lm, some: Examples, most: int) -> int:
    """Rows of the prompts' length that one pass may hold, `most` at most."""
    return max(1, min(most, LOGITS // (lm.d_vocab * some.slot.shape[1])))
