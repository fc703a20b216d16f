"""Where patterns match: on tokens, or on texts of several tokens, whatever a feature does there."""

from collections.abc import Sequence
from functools import cached_property

from autointerp.patterns.records import TokenPattern
from autointerp.patterns.token_shapes import TOKEN_SHAPES, strip_token


class PatternMatcher:
    """Patterns sorted so that a token is looked up, not tried against each of them."""

    def __init__(self, patterns: Sequence[TokenPattern]) -> None:
        self.patterns = tuple(patterns)
        self._tokens: dict[str, list[TokenPattern]] = {}
        for pattern in patterns:
            if pattern.kind == "token":
                self._tokens.setdefault(strip_token(pattern.target), []).append(pattern)

    @cached_property
    def _others(self) -> list[TokenPattern]:
        return [pattern for pattern in self.patterns if pattern.kind != "token"]

    def rates(self, tokens: Sequence[str]) -> list[float]:
        """For each token of a text the highest rate of the patterns that match it; 0 for none."""
        found = [0.0] * len(tokens)
        for i, token in enumerate(tokens):
            for pattern in self._tokens.get(strip_token(token), ()):
                if pattern.rate > found[i] and is_preceded_by(tokens, i, pattern.after):
                    found[i] = pattern.rate
            for pattern in self._others:
                if pattern.rate > found[i] and matches_token(pattern, tokens, i):
                    found[i] = pattern.rate
        self._longer(tokens, found)
        return found

    def _longer(self, tokens: Sequence[str], found: list[float]) -> None:
        """The same for texts that take several tokens: a match counts on the last of them."""
        text = "".join(tokens)
        for target, patterns in self._tokens.items():
            if len(target) < 2 or target not in text:
                continue
            for i in range(1, len(tokens)):
                begin = find_text_start(tokens, i, target)
                if begin is None or begin == i or word_continues(tokens, i):
                    continue
                for pattern in patterns:
                    if pattern.rate > found[i] and is_preceded_by(tokens, begin, pattern.after):
                        found[i] = pattern.rate


def matches_token(pattern: TokenPattern, tokens: Sequence[str], i: int) -> bool:
    """Whether a beginning or a shape matches the token at an index."""
    if pattern.kind == "beginning":
        here = strip_token(tokens[i])
        right = here.startswith(pattern.target) and len(here) > len(pattern.target)
    else:
        right = TOKEN_SHAPES[pattern.target](tokens, i)
    return right and is_preceded_by(tokens, i, pattern.after)


def is_preceded_by(tokens: Sequence[str], i: int, text: str | None) -> bool:
    """Whether a text ends just before the token at an index; None always does."""
    return text is None or (i > 0 and find_text_start(tokens, i - 1, strip_token(text)) is not None)


def find_text_start(tokens: Sequence[str], last: int, text: str) -> int | None:
    """Where the tokens begin that make up a text and end with the one at `last`; None if none do.

    Several tokens have to begin where a word does, so that “ark” is not found in “spark”.
    """
    if strip_token(tokens[last]) == text:
        return last
    if not text.endswith(tokens[last].rstrip() or tokens[last]):
        return None
    joined = tokens[last]
    for first in range(last - 1, -1, -1):
        joined = tokens[first] + joined
        here = strip_token(joined)
        if here == text and not (first > 0 and word_continues(tokens, first - 1)):
            return first
        if len(here) > len(text):
            return None
    return None


def word_continues(tokens: Sequence[str], i: int) -> bool:
    """Whether the word at the end of a token goes on in the next."""
    return i + 1 < len(tokens) and tokens[i][-1:].isalnum() and tokens[i + 1][:1].isalnum()
