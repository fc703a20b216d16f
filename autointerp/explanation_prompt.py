"""The explanation prompt to copy: what a language model is shown of a feature, with contexts of the
explain split only."""

from pathlib import Path

from feature_store.errors import InputError
from feature_store.records import Context, FeaturePayload

PROMPTS_FOLDER = Path(__file__).with_name("prompts")
MARK_THRESHOLD = 0.5
"""Share of the feature's maximum activation from which a token is marked in the prompt."""
TOKENS_LISTED = 5
ACTIVATION_SCALE = 10


def make_explanation_prompt(payload: FeaturePayload, promoted: list[str], n: int) -> str:
    """Return the text of prompts/explain.txt with `n` of the feature's strongest contexts in the
    explain split.

    `promoted` are the texts of its promoted tokens. Raises InputError for a feature without a
    context in the explain split.
    """
    facts = payload.facts
    shown = [
        (context, tokens)
        for context, tokens in zip(payload.contexts, payload.tokens, strict=True)
        if context.split == "explain" and context.stratum == "top"
    ][:n]
    if not shown or facts.max_act is None:
        raise InputError(
            f"{facts.dictionary}/{facts.feature} has no context in the explain split to show."
        )
    largest = facts.max_act
    texts = [
        f"{number}. {mark_strong_tokens(context, tokens, largest)}\n   "
        f"{list_strongest_tokens(context, tokens, largest)}"
        for number, (context, tokens) in enumerate(shown, 1)
    ]
    logits = ", ".join(map(repr, promoted)) or "not known"
    template = (PROMPTS_FOLDER / "explain.txt").read_text(encoding="utf-8")
    return template.format(texts="\n\n".join(texts), promoted=logits)


def mark_strong_tokens(context: Context, tokens: list[str], largest: float) -> str:
    """Return a context's text for the explanation prompt, with « » around every token on which the
    feature fires strongly."""
    strong = {
        position - context.start
        for position, value in zip(context.positions, context.activations, strict=True)
        if abs(value) >= MARK_THRESHOLD * largest
    }
    return "".join(f"«{t}»" if i in strong else t for i, t in enumerate(tokens))


def list_strongest_tokens(context: Context, tokens: list[str], largest: float) -> str:
    """Return a context's strongest tokens with their activations from 0 to 10, for the explanation
    prompt."""
    found = sorted(
        zip(context.activations, context.positions, strict=True), key=lambda pair: -abs(pair[0])
    )[:TOKENS_LISTED]
    return ", ".join(
        f"{tokens[position - context.start]!r} {abs(value) / largest * ACTIVATION_SCALE:.0f}"
        for value, position in found
    )
