"""Which documents explainers see and which scorers ask about.

The split is a hash of the near-duplicate group (`groups.py`), so copies and the texts of one
template are always on one side. Few groups are dealt out by size instead, since a hash of few is
seldom balanced.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int, UInt8, UInt64

from backend.corpus.documents import SPLITS, Document, Split
from backend.corpus.minhash import mix_uint64
from backend.corpus.near_duplicates import DuplicateGroups

FEW_DOCUMENTS = 20
"""Below so many documents the split is by blocks, below so many groups it is dealt by size."""


def assign_splits(documents: Iterable[Document], seed: int = 0) -> list[Split]:
    """The split of each document, the same in whatever order they come."""
    groups = DuplicateGroups()
    sizes = []
    for document in documents:
        groups.add(document)
        sizes.append(len(document.text))
    return [SPLITS[side] for side in assign_sides(groups.keys(), sizes, seed)]


def assign_sides(
    keys: UInt64[np.ndarray, "documents"], sizes: Sequence[int], seed: int
) -> UInt8[np.ndarray, "documents"]:
    """The split of each document as 0 or 1, from its group's key and its size in any unit."""
    if len(np.unique(keys)) < FEW_DOCUMENTS:
        return _deal_groups(keys, np.asarray(sizes))
    salt = mix_uint64(np.array([seed % 2**64], np.uint64))
    return (mix_uint64(keys ^ salt) >> np.uint64(63)).astype(np.uint8)


def _deal_groups(
    keys: UInt64[np.ndarray, "documents"], sizes: Int[np.ndarray, "documents"]
) -> UInt8[np.ndarray, "documents"]:
    """The largest group first, each to the side that has less so far; ties go by key."""
    groups, inverse = np.unique(keys, return_inverse=True)
    size = np.bincount(inverse, weights=sizes, minlength=len(groups))
    side = np.zeros(len(groups), np.uint8)
    load = [0.0, 0.0]
    for group in np.lexsort((groups, -size)).tolist():
        lighter = int(load[1] < load[0])
        side[group] = lighter
        load[lighter] += float(size[group])
    return side[inverse]
