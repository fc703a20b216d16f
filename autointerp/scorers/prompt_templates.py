"""Prompt templates of explainers and judges, with labels and texts quoted so that they cannot break
out of their quotes.

A label or text may contain anything, including instructions. Each is written as a JSON string on
one line: quotes, line breaks and unprintable characters are escaped, as are the marks « and » where
they belong to the text.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

from feature_store.strict_json import dump_json

PROMPTS_FOLDER = Path(__file__).parent.with_name("prompts")
MARK_OPEN, MARK_CLOSE = "«", "»"
ESCAPED_CHARS = frozenset(f'"\\{MARK_OPEN}{MARK_CLOSE}')


@dataclass(frozen=True)
class PromptTemplate:
    """Prompt template read from a file, with its version."""

    template: Template
    version: str
    """File name and the first digits of its hash, so that scores with different wordings can be
    distinguished."""

    def fill(self, **fields: object) -> str:
        """Return the prompt of the template with its fields filled in; the fields' text is not read
        as a template again."""
        return self.template.substitute({name: str(value) for name, value in fields.items()})


@cache
def load_score_prompt(name: str) -> PromptTemplate:
    """Return the prompt template `score_<name>.md`."""
    text = (PROMPTS_FOLDER / f"score_{name}.md").read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return PromptTemplate(Template(text), f"score_{name}.md {digest}")


def escape_text(text: str) -> str:
    """Return a text as the inside of a JSON string for a prompt, on one line, with characters
    escaped that mark tokens in prompts, such as « and »."""
    if text.isprintable() and not ESCAPED_CHARS & set(text):
        return text
    return "".join(
        c if c.isprintable() and c not in ESCAPED_CHARS else dump_json(c, ascii_only=True)[1:-1]
        for c in text
    )


def quote_as_json(text: str) -> str:
    """Return a text as a JSON string for a prompt."""
    return f'"{escape_text(text)}"'


def list_as_json(texts: Sequence[str]) -> str:
    """Return texts as a JSON list of strings for a prompt."""
    return f"[{', '.join(map(quote_as_json, texts))}]"


def mark_tokens(tokens: Sequence[str], marks: frozenset[int]) -> str:
    """Return tokens as one JSON string for a prompt, with « and » around each run of marked
    tokens."""
    parts = []
    for i, token in enumerate(tokens):
        opens = MARK_OPEN if i in marks and i - 1 not in marks else ""
        closes = MARK_CLOSE if i in marks and i + 1 not in marks else ""
        parts.append(f"{opens}{escape_text(token)}{closes}")
    return f'"{"".join(parts)}"'


def number_lines(lines: Sequence[str]) -> str:
    """Return the items of a prompt, one per line, numbered from 1."""
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
