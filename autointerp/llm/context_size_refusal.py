"""Recognise the messages by which servers refuse a question as too long for their context, and read
the sizes that they name."""

import re
from dataclasses import dataclass

REFUSAL_PATTERN = re.compile(
    r"(?:context (?:size|length|window)|max_model_len|maximum context|n_ctx|context_length_exceeded"
    r"|exceed_context_size|prompt is too long|too many tokens|longer than the maximum)",
    re.I,
)
"""Phrases by which servers say that a prompt is too long for their context."""
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
    """Sizes in tokens that a server names when it refuses a question as too long for its context;
    None where it names none."""

    context_tokens: int | None
    prompt_tokens: int | None


def parse_context_refusal(message: str) -> ContextSizeRefusal | None:
    """Return the sizes in a server's refusal of a prompt that is too long for its context; None for
    any other message."""
    if not REFUSAL_PATTERN.search(message):
        return None
    sizes = [int(m.replace(",", "")) for m in CONTEXT_SIZE_PATTERN.findall(message)]
    prompts = [int(m.replace(",", "")) for m in PROMPT_SIZE_PATTERN.findall(message)]
    return ContextSizeRefusal(min(sizes, default=None), max(prompts, default=None))
