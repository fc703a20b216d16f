"""How servers say that a question is too long for their context, and what sizes they name."""

import re
from dataclasses import dataclass

REFUSAL_PATTERN = re.compile(
    r"(?:context (?:size|length|window)|max_model_len|maximum context|n_ctx|context_length_exceeded"
    r"|exceed_context_size|prompt is too long|too many tokens|longer than the maximum)",
    re.I,
)
"""How servers say that a prompt is too long for their context."""
CONTEXT_SIZE_PATTERN = re.compile(
    r"(?:context (?:size|length|window)|model length|max_model_len|n_ctx)[^0-9]{0,40}"
    r"([0-9][0-9,]{1,8})",
    re.I,
)
PROMPT_SIZE_PATTERN = re.compile(
    r"(?:request|requested|resulted in|prompt contains|your prompt is|n_prompt_tokens)"
    r"[^0-9]{0,20}([0-9][0-9,]{1,8})(?: tokens)?",
    re.I,
)


@dataclass(frozen=True)
class ContextSizeRefusal:
    """What a server says when a question does not fit its context."""

    context_tokens: int | None
    prompt_tokens: int | None


def parse_context_refusal(said: str) -> ContextSizeRefusal | None:
    """Return the sizes in a server's refusal of a long prompt; None for any other message."""
    if not REFUSAL_PATTERN.search(said):
        return None
    sizes = [int(m.replace(",", "")) for m in CONTEXT_SIZE_PATTERN.findall(said)]
    prompts = [int(m.replace(",", "")) for m in PROMPT_SIZE_PATTERN.findall(said)]
    return ContextSizeRefusal(min(sizes, default=None), max(prompts, default=None))
