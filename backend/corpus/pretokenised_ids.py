"""Pretokenised rows: ready-made token ids that are fed to the model as they are, and how they are
decoded to text."""

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

from feature_store.errors import InputError

DecodeIds = Callable[[Sequence[int]], str]
"""Function that decodes token ids to text; raises InputError for an id that the tokenizer does not
have."""


def token_decoder(tokenizer: Any) -> DecodeIds:
    """Return a function that decodes ready-made token ids to text, by which copies of texts are
    found.

    Ids made by another tokenizer are detected only where this tokenizer does not have them.
    `tokenizer` is a tokenizer of transformers.
    """
    size = len(tokenizer)

    def decode(ids: Sequence[int]) -> str:
        largest = max(ids, default=0)
        if largest >= size:
            raise InputError(
                f"token id {largest} is outside this model's vocabulary of {size:,} tokens: the "
                "ids belong to another model."
            )
        return str(tokenizer.decode(list(ids)))

    return decode


def show_ids(ids: Sequence[int]) -> str:
    """Write token ids as numbers, in place of their text, where only the form of the rows is
    checked."""
    return " ".join(str(number) for number in ids)


def is_token_ids(value: object) -> TypeGuard[Sequence[int]]:
    """Return whether a column's value is a list of token ids."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str | bytes)
        and all(type(element) is int and 0 <= element < 2**31 for element in value)
    )
