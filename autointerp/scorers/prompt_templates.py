"""What a judge reads: the prompt files, with labels and texts in quotes that they cannot leave.

A label and a text may hold anything, instructions included. Each is written as a JSON string on one
line: quotes, line breaks and all that does not print are escaped, and so are the marks « and »
where they belong to the text.
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
    """A prompt file."""

    template: Template
    version: str
    """Its name and the begin of its hash: scores of different wordings are told apart."""

    def fill(self, **fields: object) -> str:
        """The prompt. Fields are put in once: what they hold is not read as a template."""
        return self.template.substitute({name: str(value) for name, value in fields.items()})


@cache
def load_score_prompt(name: str) -> PromptTemplate:
    """The prompt file `score_<name>.md`."""
    text = (PROMPTS_FOLDER / f"score_{name}.md").read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return PromptTemplate(Template(text), f"score_{name}.md {digest}")


def escape_text(text: str) -> str:
    """The inside of a JSON string, on one line, without marks."""
    if text.isprintable() and not ESCAPED_CHARS & set(text):
        return text
    return "".join(
        c if c.isprintable() and c not in ESCAPED_CHARS else dump_json(c, ascii_only=True)[1:-1]
        for c in text
    )


def quote_as_json(text: str) -> str:
    """A JSON string."""
    return f'"{escape_text(text)}"'


def list_as_json(texts: Sequence[str]) -> str:
    """A JSON list of strings."""
    return f"[{', '.join(map(quote_as_json, texts))}]"


def mark_tokens(tokens: Sequence[str], marks: frozenset[int]) -> str:
    """The tokens as one JSON string, each run of marked ones between « and »."""
    parts = []
    for i, token in enumerate(tokens):
        opens = MARK_OPEN if i in marks and i - 1 not in marks else ""
        closes = MARK_CLOSE if i in marks and i + 1 not in marks else ""
        parts.append(f"{opens}{escape_text(token)}{closes}")
    return f'"{"".join(parts)}"'


def number_lines(lines: Sequence[str]) -> str:
    """The pieces of a prompt, one a line, from 1."""
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
