"""Counted positions: which tokens of a batch statistics count, leaving out BOS, padding and special
tokens."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def uncounted_token_ids(
    bos: int | None, special: Iterable[int], metadata: Mapping[str, object]
) -> frozenset[int]:
    """Return the token ids at whose positions nothing is counted: always BOS, and special tokens as
    the dictionary's metadata says.

    `exclude_special_tokens` of the metadata may be false (BOS only), a list of ids, or true;
    without it, all special tokens are left out.
    """
    setting = metadata.get("exclude_special_tokens")
    if setting is None or setting is True:
        ids = set(special)
    elif isinstance(setting, Sequence) and not isinstance(setting, str):
        ids = {int(token) for token in setting}
    else:
        ids = set()
    return frozenset(ids if bos is None else {*ids, bos})


def pad_right(
    sequences: Sequence[Sequence[int]], fill: int = 0
) -> tuple[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    """Pad token sequences on the right to one matrix [batch, pos]; return it with the mask of real
    positions.

    Causal attention needs no further mask.
    """
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
    """Return the mask [batch, pos] of counted positions: real ones whose token id is not in
    `uncounted`."""
    excluded = torch.tensor(sorted(uncounted), dtype=tokens.dtype, device=tokens.device)
    return real & ~torch.isin(tokens, excluded)
