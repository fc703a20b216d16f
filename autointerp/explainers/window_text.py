"""Windows as an explainer is shown them: one line each, in quotes that no text can leave."""

from collections.abc import Sequence

from autointerp.contexts import FeatureSample
from autointerp.scorers.prompt_templates import mark_tokens
from autointerp.scorers.token_marks import true_marks
from autointerp.text_windows import TextWindow

MAX_STRONGEST = 10
"""Windows taken where none of a feature's are `top`."""
ACTIVATION_SCALE = 10
"""The feature's largest activation, on the scale that prompts use."""


def strongest_windows(sampled: FeatureSample) -> tuple[TextWindow, ...]:
    """The strongest windows of the explain split."""
    found = tuple(example for example in sampled.explain if example.kind == "top")
    return found or sampled.explain[:MAX_STRONGEST]


def mark_firing_tokens(example: TextWindow) -> str:
    """A window with « » around the tokens that fire at 0.3 of its maximum or more."""
    return mark_tokens(example.tokens, true_marks(example))


def activation_level(value: float, largest: float) -> int:
    """|activation| from 0 to SCALE; what fires at all is at least 1."""
    if not value:
        return 0
    return min(ACTIVATION_SCALE, max(1, round(abs(value) / largest * ACTIVATION_SCALE)))


def largest_activation(sampled: FeatureSample) -> float:
    """The feature's largest |activation|, over the harvest or at least over its windows."""
    seen = max((abs(a) for e in sampled.explain for a in e.activations), default=0.0)
    return max(seen, sampled.facts.max_act or 0.0) or 1.0


def peak_tokens(examples: Sequence[TextWindow], ahead: int = 0) -> list[str]:
    """The tokens at which windows peak, or those `ahead` of them, once each, in order."""
    at = [(e, e.peak + ahead) for e in examples if e.peak >= 0]
    return list(dict.fromkeys(e.tokens[i] for e, i in at if i < len(e.tokens)))
