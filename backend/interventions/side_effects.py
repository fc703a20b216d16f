"""Side effects of an intervention: KL divergence of next-token distributions, repetition,
perplexity, and the warnings drawn from them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from feature_store.number_format import format_fixed

NO_EFFECT = 1e-6
"""KL in nats, and share of ‖h‖, below which an edit counts as having no effect."""
N_GRAM = 3
LAST_TOKENS = 60
LEAST_TOKENS = 20
REPETITION_LIMIT = 0.5
PERPLEXITY_LIMIT = 5.0


def next_token_kl(
    clean: Float[Tensor, "... vocab"], edited: Float[Tensor, "... vocab"]
) -> Float[Tensor, "..."]:
    """Return KL(clean ‖ edited) of next-token distributions given by logits, in nats, never below
    0."""
    p, q = clean.float().log_softmax(-1), edited.float().log_softmax(-1)
    # log 0 - log 0 where both rule a token out: it adds nothing
    terms = torch.where(p.isneginf(), 0.0, p.exp() * (p - q))
    return terms.sum(-1).clamp_min(0)


def trigram_repetition(tokens: Sequence[int]) -> float | None:
    """Return the share of the last 60 tokens' trigrams that occurred before; None for fewer than 20
    tokens."""
    recent = tokens[-LAST_TOKENS:]
    if len(recent) < LEAST_TOKENS:
        return None
    grams = list(zip(*(recent[i:] for i in range(N_GRAM)), strict=False))
    return 1 - len(set(grams)) / len(grams)


def describe_degeneration(
    tokens: Sequence[int], perplexity: float | None, default: float | None
) -> str | None:
    """Return a warning where a generated text repeats itself or is far more surprising to the clean
    model than the default text.

    Both perplexities are those of the clean model. None where nothing is wrong.
    """
    repeated = trigram_repetition(tokens)
    if repeated is not None and repeated > REPETITION_LIMIT:
        return (
            f"The text repeats itself: {repeated:.0%} of the trigrams among its last "
            f"{min(len(tokens), LAST_TOKENS)} tokens are repeated."
        )
    if perplexity is not None and default and perplexity > PERPLEXITY_LIMIT * default:
        return (
            "The clean model finds this text surprising: perplexity "
            f"{format_fixed(perplexity, 0)}, against {format_fixed(default, 0)} for the default "
            "text."
        )
    return None


def describe_no_effect(shift: float | None, divergence: float | None) -> str | None:
    """Return a sentence where an edit had no effect, from the largest ‖Δh‖/‖h‖ and the largest KL;
    None otherwise."""
    if shift is not None and shift <= NO_EFFECT:
        return "The edit changed nothing: it acted at no token, or its strength is neutral."
    if divergence is not None and divergence <= NO_EFFECT:
        return "The edit changed the residual stream but not the prediction of the next token."
    return None
