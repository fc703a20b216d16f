"""Masks of edits: at which tokens of a row an edit acts, and with what share of its strength, in
plain Python."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import regex

from backend.corpus.chat_template import TEMPLATE_ROLE
from backend.interventions.records import Edit, EditCondition
from backend.interventions.token_text import TokenTextDecoder
from feature_store.errors import InputError

SECONDS = 0.2
"""Time limit for matching a regular expression on one text, in seconds; some patterns would never
finish."""
LOOK_BACK = 1_000
"""Number of characters before a generated token in which a match may begin."""


@dataclass
class RowTokens:
    """Tokens of one row (text) of an edited batch so far, with the chat roles and decoded text that
    edit conditions are checked against; grows during generation."""

    tokenizer: Any
    n_prompt: int
    roles: Sequence[str | None] = ()
    """Chat role of each prompt token; generated tokens have the role of the assistant."""
    tokens: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """End of each token's text in `text`; filled only where a condition has a pattern."""
    text: str = ""
    _pieces: TokenTextDecoder | None = None

    def extend(self, tokens: Sequence[int], *, decode: bool) -> None:
        """Append tokens to the row whose edit mask is computed, and their decoded text where
        `decode` asks for it."""
        self.tokens.extend(tokens)
        if not decode:
            return
        if self._pieces is None:
            self._pieces = TokenTextDecoder(self.tokenizer)
        for token in tokens:
            self.text += self._pieces.add(token)
            self.ends.append(len(self.text))

    def clear(self) -> None:
        """Remove all tokens from the row whose edit mask is computed."""
        self.tokens, self.ends, self.text, self._pieces = [], [], "", None

    def role(self, position: int) -> str | None:
        """Return the chat role at a position of the row; None outside any message."""
        if position >= self.n_prompt:
            return "assistant"
        return self.roles[position] if position < len(self.roles) else None


def edit_factors(
    edit: Edit, line: RowTokens, start: int, bos: int | None, special: Collection[int]
) -> list[float]:
    """Return the mask of an edit: a factor of 0 to 1 for each token of the row from `start` on,
    without its gate."""
    where = edit.where
    matched = None if where.pattern is None else _match_tokens(where.pattern, line, start)
    found = []
    for position in range(start, len(line.tokens)):
        held = _condition_holds(where, line, position, bos, special)
        if matched is not None:
            held = held and matched[position - start]
        generated = position - line.n_prompt
        found.append((edit.when.factor(generated) if generated >= 0 else 1.0) if held else 0.0)
    return found


def _condition_holds(
    where: EditCondition, line: RowTokens, position: int, bos: int | None, special: Collection[int]
) -> bool:
    """Return whether an edit's condition holds at a position, apart from its pattern and gate."""
    if where.parts != "all" and (where.parts == "generated") != (position >= line.n_prompt):
        return False
    if where.roles is not None and line.role(position) not in where.roles:
        return False
    if where.positions is not None:
        return position in where.positions
    token = line.tokens[position]
    if line.role(position) == TEMPLATE_ROLE and not where.special and token != bos:
        return False
    if token == bos:
        return where.bos
    return where.special or token not in special


def compile_pattern(pattern: str) -> "regex.Pattern[str]":
    """Return the compiled regular expression of an edit's condition; InputError for an
    invalid one."""
    try:
        return regex.compile(pattern)
    except regex.error as bad:
        raise InputError(
            f"{pattern!r} is not a regular expression ({bad}): write one such as \\bpark\\b."
        ) from None


def _match_tokens(pattern: str, line: RowTokens, start: int) -> list[bool]:
    """Return, for each token of a row from `start` on, whether a match of the edit condition's
    regular expression touches the token's text.

    The whole prompt is known. A generated token is judged by the text up to its own end, since
    later text cannot change what has been computed.
    """
    search = compile_pattern(pattern)
    known = min(line.n_prompt, len(line.tokens))
    spans = _match_spans(search, line.text[: line.ends[known - 1]], 0) if start < known else []
    found = []
    for position in range(start, len(line.tokens)):
        begin, end = (line.ends[position - 1] if position else 0), line.ends[position]
        if position >= known:
            spans = _match_spans(search, line.text[:end], max(0, end - LOOK_BACK))
        found.append(begin < end and any(a < end and begin < b for a, b in spans))
    return found


def _match_spans(search: "regex.Pattern[str]", text: str, begin: int) -> list[tuple[int, int]]:
    """Return the (start, end) of all matches of a pattern in a text; InputError where matching
    takes too long."""
    try:
        return [match.span() for match in search.finditer(text, begin, timeout=SECONDS)]
    except TimeoutError:
        raise InputError(
            f"The pattern {search.pattern!r} takes longer than {SECONDS} s on this text: "
            "write a simpler one."
        ) from None
