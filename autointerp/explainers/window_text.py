"""Text of windows as explainers show them in a prompt: one line each, in quotes, with « » around
the tokens that fire."""

from collections.abc import Sequence

from autointerp.contexts import FeatureSample
from autointerp.scorers.prompt_templates import mark_tokens
from autointerp.scorers.token_marks import true_marks
from autointerp.text_windows import TextWindow

MAX_STRONGEST = 10
"""Number of windows shown where none of the feature's windows are `top`."""
ACTIVATION_SCALE = 10
"""Level of the feature's largest activation on the scale that prompts use."""


def strongest_windows(sampled: FeatureSample) -> tuple[TextWindow, ...]:
    """Return the feature's windows of kind `top` in the explain split, whose text explainers show
    in a prompt; the first MAX_STRONGEST windows where none is `top`."""
    found = tuple(example for example in sampled.explain if example.kind == "top")
    return found or sampled.explain[:MAX_STRONGEST]


def mark_firing_tokens(example: TextWindow) -> str:
    """Return a window's text with « » around the tokens that fire at 0.3 of its maximum or more."""
    return mark_tokens(example.tokens, true_marks(example))


def activation_level(value: float, largest: float) -> int:
    """Return an |activation| as an integer level from 0 to ACTIVATION_SCALE for the window's text;
    any firing token has at least 1."""
    if not value:
        return 0
    return min(ACTIVATION_SCALE, max(1, round(abs(value) / largest * ACTIVATION_SCALE)))


def largest_activation(sampled: FeatureSample) -> float:
    """Return the feature's largest |activation| over the harvest and its windows, which is level 10
    in a window's text; 1.0 where all are 0."""
    seen = max((abs(a) for e in sampled.explain for a in e.activations), default=0.0)
    return max(seen, sampled.facts.max_act or 0.0) or 1.0


def peak_tokens(examples: Sequence[TextWindow], ahead: int = 0) -> list[str]:
    """Return the text of the token on which each window peaks, or of the token `ahead` positions
    after the peak, each text once, in order, for an explainer's prompt."""
    at = [(e, e.peak + ahead) for e in examples if e.peak >= 0]
    return list(dict.fromkeys(e.tokens[i] for e, i in at if i < len(e.tokens)))
