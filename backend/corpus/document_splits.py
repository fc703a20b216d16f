"""Document splits: which documents are shown to explainers and which are used by scorers.

The split is a hash of the document's near-duplicate group (`near_duplicates.py`), so copies, and
texts of one template, are always in the same split. Few groups are assigned by size instead, since
a hash of few groups is rarely balanced.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int, UInt8, UInt64

from backend.corpus.documents import SPLITS, Document, Split
from backend.corpus.minhash import mix_uint64
from backend.corpus.near_duplicates import DuplicateGroups

FEW_DOCUMENTS = 20
"""Number below which documents are split by blocks, and near-duplicate groups by size."""


def assign_splits(documents: Iterable[Document], seed: int = 0) -> list[Split]:
    """Return for each document of a corpus its split, `explain` (shown to explainers) or `score`
    (used by scorers), independent of the order in which the documents come."""
    groups = DuplicateGroups()
    sizes = []
    for document in documents:
        groups.add(document)
        sizes.append(len(document.text))
    return [SPLITS[side] for side in assign_sides(groups.keys(), sizes, seed)]


def assign_sides(
    keys: UInt64[np.ndarray, "documents"], sizes: Sequence[int], seed: int
) -> UInt8[np.ndarray, "documents"]:
    """Return the split of each document as 0 (explain) or 1 (score), from the key of the document's
    near-duplicate group and the document's size in any unit."""
    if len(np.unique(keys)) < FEW_DOCUMENTS:
        return _deal_groups(keys, np.asarray(sizes))
    salt = mix_uint64(np.array([seed % 2**64], np.uint64))
    return (mix_uint64(keys ^ salt) >> np.uint64(63)).astype(np.uint8)  # the highest bit


def _deal_groups(
    keys: UInt64[np.ndarray, "documents"], sizes: Int[np.ndarray, "documents"]
) -> UInt8[np.ndarray, "documents"]:
    """Assign near-duplicate groups of documents to the two splits by size: the largest first, each
    to the split that has less text so far; ties are decided by key. Returns 0 or 1 per document."""
    groups, inverse = np.unique(keys, return_inverse=True)
    size = np.bincount(inverse, weights=sizes, minlength=len(groups))
    side = np.zeros(len(groups), np.uint8)
    load = [0.0, 0.0]
    for group in np.lexsort((groups, -size)).tolist():
        lighter = int(load[1] < load[0])
        side[group] = lighter
        load[lighter] += float(size[group])
    return side[inverse]
