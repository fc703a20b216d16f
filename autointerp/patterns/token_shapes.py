"""Kinds of tokens that have a name in plain words."""

from collections.abc import Callable, Sequence
from functools import lru_cache

ANYTHING = "anything"
"""Every token: says something only with what stands before."""


@lru_cache(maxsize=1 << 16)
def strip_token(token: str) -> str:
    """A token without the blanks around it; blanks alone stay."""
    return token.strip() or token


def is_word_part(tokens: Sequence[str], i: int) -> bool:
    """Whether a token goes on with a word that an earlier one began."""
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
"""Names as a label writes them; whether the token at an index of a text is of that kind."""


def is_punctuation(token: str) -> bool:
    """Signs without a letter or digit."""
    return bool(token) and not token.isspace() and not any(c.isalnum() for c in token)
