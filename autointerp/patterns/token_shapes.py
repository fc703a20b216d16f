"""Token shapes: kinds of tokens with a name in plain words, such as numbers, capitalised words or
punctuation."""

from collections.abc import Callable, Sequence
from functools import lru_cache

ANYTHING = "anything"
"""Name of the token shape that matches every token; useful only with a preceding text."""


@lru_cache(maxsize=1 << 16)
def strip_token(token: str) -> str:
    """Return a token without surrounding spaces; a token of spaces alone is unchanged."""
    return token.strip() or token


def is_word_part(tokens: Sequence[str], i: int) -> bool:
    """Return whether a token continues a word that an earlier token began."""
    return i > 0 and tokens[i][:1].isalpha() and tokens[i - 1][-1:].isalpha()


TOKEN_SHAPES: dict[str, Callable[[Sequence[str], int], bool]] = {
    "numbers": lambda tokens, i: strip_token(tokens[i]).isdigit(),
    "capitalised words": lambda tokens, i: (
        strip_token(tokens[i]).istitle() and len(strip_token(tokens[i])) > 1
    ),
    "words in capitals": lambda tokens, i: (
        strip_token(tokens[i]).isupper() and len(strip_token(tokens[i])) > 1
    ),
    "single letters": lambda tokens, i: (
        len(strip_token(tokens[i])) == 1 and strip_token(tokens[i]).isalpha()
    ),
    "parts of words": is_word_part,
    "punctuation": lambda tokens, i: is_punctuation(tokens[i]),
    "line breaks": lambda tokens, i: tokens[i].isspace() and "\n" in tokens[i],
    "spaces": lambda tokens, i: tokens[i].isspace() and "\n" not in tokens[i],
    ANYTHING: lambda tokens, i: True,
}
"""Name of a token shape as labels write it → function that tells whether the token at an index of a
text has this shape."""


def is_punctuation(token: str) -> bool:
    """Return whether a token consists of signs without any letter or digit."""
    return bool(token) and not token.isspace() and not any(c.isalnum() for c in token)
