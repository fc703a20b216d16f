"""Ready-made token ids: rows that were tokenised before, fed to the model as they are."""

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

from feature_store.errors import InputError

DecodeIds = Callable[[Sequence[int]], str]
"""Token ids in, their text out; InputError for an id that the tokenizer does not have."""


def token_decoder(tokenizer: Any) -> DecodeIds:
    """Return what gives the text of ready-made token ids, by which copies of texts are found.

    Whether the ids are this tokenizer's cannot be told from them; one that it does not have can.
    `tokenizer` is one of transformers'.
    """
    size = len(tokenizer)

    def decode(ids: Sequence[int]) -> str:
        largest = max(ids, default=0)
        if largest >= size:
            raise InputError(
                f"token id {largest} is beyond this model's tokenizer, which has {size:,} tokens: "
                "the ids belong to another model."
            )
        return str(tokenizer.decode(list(ids)))

    return decode


def show_ids(ids: Sequence[int]) -> str:
    """Stand for their text while only the shape of the rows is checked."""
    return " ".join(str(number) for number in ids)


def is_token_ids(value: object) -> TypeGuard[Sequence[int]]:
    """Whether a column's value is a list of token ids."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str | bytes)
        and all(type(one) is int and 0 <= one < 2**31 for one in value)
    )
