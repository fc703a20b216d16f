"""Matcher of token patterns: finds where the patterns of a label match in a text, on single tokens
or on texts that span several."""

from collections.abc import Sequence
from functools import cached_property

from autointerp.patterns.token_patterns import TokenPattern
from autointerp.patterns.token_shapes import TOKEN_SHAPES, strip_token


class PatternMatcher:
    """Matcher that finds a label's token patterns in texts. Patterns are in a lookup table by
    token, so that a token is not compared with each of them."""

    def __init__(self, patterns: Sequence[TokenPattern]) -> None:
        self.patterns = tuple(patterns)
        self._patterns_by_token: dict[str, list[TokenPattern]] = {}
        for pattern in patterns:
            if pattern.kind == "token":
                self._patterns_by_token.setdefault(strip_token(pattern.target), []).append(pattern)

    @cached_property
    def _other_patterns(self) -> list[TokenPattern]:
        return [pattern for pattern in self.patterns if pattern.kind != "token"]

    def rates(self, tokens: Sequence[str]) -> list[float]:
        """Return for each token of a text the highest rate of the patterns that match it; 0 for
        none."""
        rates = [0.0] * len(tokens)
        for i, token in enumerate(tokens):
            for pattern in self._patterns_by_token.get(strip_token(token), ()):
                if pattern.rate > rates[i] and is_preceded_by(tokens, i, pattern.after):
                    rates[i] = pattern.rate
            for pattern in self._other_patterns:
                if pattern.rate > rates[i] and matches_token(pattern, tokens, i):
                    rates[i] = pattern.rate
        self._match_longer_texts(tokens, rates)
        return rates

    def _match_longer_texts(self, tokens: Sequence[str], rates: list[float]) -> None:
        """Update the rates with patterns whose text spans several tokens: a match counts on the
        last of them."""
        text = "".join(tokens)
        for target, patterns in self._patterns_by_token.items():
            if len(target) < 2 or target not in text:
                continue
            for i in range(1, len(tokens)):
                # single tokens were matched above
                begin = find_text_start(tokens, i, target)
                if begin is None or begin == i or word_continues(tokens, i):
                    continue
                for pattern in patterns:
                    if pattern.rate > rates[i] and is_preceded_by(tokens, begin, pattern.after):
                        rates[i] = pattern.rate


def matches_token(pattern: TokenPattern, tokens: Sequence[str], i: int) -> bool:
    """Return whether a beginning pattern or a shape pattern matches the token at an index."""
    if pattern.kind == "beginning":
        token = strip_token(tokens[i])
        matches = token.startswith(pattern.target) and len(token) > len(pattern.target)
    else:
        matches = TOKEN_SHAPES[pattern.target](tokens, i)
    return matches and is_preceded_by(tokens, i, pattern.after)


def is_preceded_by(tokens: Sequence[str], i: int, text: str | None) -> bool:
    """Return whether a pattern's preceding text ends directly before the token at an index; None
    always matches."""
    return text is None or (i > 0 and find_text_start(tokens, i - 1, strip_token(text)) is not None)


def find_text_start(tokens: Sequence[str], last: int, text: str) -> int | None:
    """Return the index of the first of the tokens that form a pattern's text and end at `last`;
    None if there are none.

    Several tokens must begin at the beginning of a word, so that “ark” is not found in “spark”.
    """
    if strip_token(tokens[last]) == text:
        return last
    if not text.endswith(tokens[last].rstrip() or tokens[last]):
        return None
    joined = tokens[last]
    for first in range(last - 1, -1, -1):
        joined = tokens[first] + joined
        token = strip_token(joined)
        if token == text and not (first > 0 and word_continues(tokens, first - 1)):
            return first
        if len(token) > len(text):
            return None
    return None


def word_continues(tokens: Sequence[str], i: int) -> bool:
    """Return whether the word at the end of a token continues in the next token, so that a
    pattern's text does not match there."""
    return i + 1 < len(tokens) and tokens[i][-1:].isalnum() and tokens[i + 1][:1].isalnum()
