"""Which positions count: BOS, padding and special tokens are not what a dictionary is judged by."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def uncounted_token_ids(
    bos: int | None, special: Iterable[int], metadata: Mapping[str, object]
) -> frozenset[int]:
    """The token ids left out of every count: BOS always, special tokens as the dictionary says.

    `exclude_special_tokens` of the metadata may be false (BOS only), a list of ids, or true; all
    special tokens are left out when it is absent.
    """
    asked = metadata.get("exclude_special_tokens")
    if asked is None or asked is True:
        chosen = set(special)
    elif isinstance(asked, Sequence) and not isinstance(asked, str):
        chosen = {int(token) for token in asked}
    else:
        chosen = set()
    return frozenset(chosen if bos is None else {*chosen, bos})


def pad_right(
    sequences: Sequence[Sequence[int]], fill: int = 0
) -> tuple[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    """Sequences as one matrix, and which entries are real. Causal attention needs no more."""
    longest = max(len(sequence) for sequence in sequences)
    tokens = torch.full((len(sequences), longest), fill, dtype=torch.long)
    real = torch.zeros(tokens.shape, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        real[row, : len(sequence)] = True
    return tokens, real


def mark_counted_positions(
    tokens: Int[Tensor, "batch pos"], real: Bool[Tensor, "batch pos"], uncounted: Iterable[int]
) -> Bool[Tensor, "batch pos"]:
    """Real positions whose token is not left out."""
    out = torch.tensor(sorted(uncounted), dtype=tokens.dtype, device=tokens.device)
    return real & ~torch.isin(tokens, out)
