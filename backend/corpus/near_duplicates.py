"""Near-duplicate documents: groups of documents with almost the same text, found independently of
their order in the corpus.

Locality-sensitive hashing finds candidate pairs (Indyk & Motwani 1998), the complete MinHash
sketches confirm them, and union-find joins them. A group's key is the smallest content hash of its
documents. Generated documents are grouped by their template instead.
"""

import numpy as np
from jaxtyping import Bool, Int, UInt32, UInt64

from backend.corpus.documents import Document
from backend.corpus.minhash import (
    BANDS,
    ROWS,
    SKETCH_HASHES,
    content_hash,
    estimate_similarity,
    minhash_sketch,
    mix_uint64,
    normalise_text,
)

MIN_SIMILARITY = 0.4
"""Estimated similarity from which two texts are near-duplicates. With one word in 50 changed the
similarity is 0.82, more than six standard errors above this. It compares complete texts: a short
excerpt of a long document is not its near-duplicate."""
COMPARED_NEIGHBOURS = 8
"""Number of next documents in a band's bucket that a document is compared with, which bounds the
work in a corpus where thousands share a licence header."""


class DuplicateGroups:
    """Groups of near-duplicate documents. Documents are added one at a time (about 0.35 kB each),
    then each gets the key of its group."""

    def __init__(self) -> None:
        self._content: list[int] = []
        self._sketches: list[np.ndarray] = []

    def add(self, document: Document) -> None:
        """Add the next document to the near-duplicate search; its text is not kept."""
        if document.template is not None:
            self._content.append(content_hash("template", document.template))
            self._sketches.append(_NO_SKETCH)
        else:
            normal = normalise_text(document.text)
            self._content.append(content_hash(normal))
            self._sketches.append(minhash_sketch(normal))

    def keys(self) -> UInt64[np.ndarray, "documents"]:
        """Return the group key of each document, in the order in which the documents were added."""
        content = np.array(self._content, np.uint64)
        unique, first, inverse = np.unique(content, return_index=True, return_inverse=True)
        has_text = np.array([self._sketches[i] is not _NO_SKETCH for i in first], bool)
        texts = np.flatnonzero(has_text)
        if len(texts) < 2:
            return content
        sketches = np.stack([self._sketches[i] for i in first[texts]])
        root = np.arange(len(unique), dtype=np.int64)
        root[texts] = texts[_group_roots(sketches)]
        return unique[root[inverse]]


_NO_SKETCH = np.zeros(SKETCH_HASHES, np.uint32)


def _group_roots(sketches: UInt32[np.ndarray, "n hashes"]) -> Int[np.ndarray, "n"]:
    """Return for each text the first text of its near-duplicate group, by union-find."""
    parent = list(range(len(sketches)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]  # path halving keeps the trees flat
            i = parent[i]
        return i

    for left, right in _similar_pairs(sketches):
        a, b = find(left), find(right)
        parent[max(a, b)] = min(a, b)
    return np.array([find(i) for i in range(len(parent))])


def _similar_pairs(sketches: UInt32[np.ndarray, "n hashes"]) -> list[tuple[int, int]]:
    """Return the pairs of near-duplicate texts: they share a band of their sketches, and the
    complete sketches agree."""
    pairs: set[tuple[int, int]] = set()
    for band in range(BANDS):
        bucket = _bucket_keys(sketches[:, band * ROWS : (band + 1) * ROWS])
        order = np.argsort(bucket, kind="stable")
        # Documents of one bucket are neighbours in this order.
        for step in range(1, min(COMPARED_NEIGHBOURS, len(order) - 1) + 1):
            left, right = order[:-step], order[step:]
            left, right = _filter_pairs(bucket[left] == bucket[right], left, right)
            left, right = _filter_pairs(
                estimate_similarity(sketches, left, right) >= MIN_SIMILARITY, left, right
            )
            pairs.update(zip(left.tolist(), right.tolist(), strict=True))
    return sorted(pairs)


def _filter_pairs(
    keep: Bool[np.ndarray, "n"], left: Int[np.ndarray, "n"], right: Int[np.ndarray, "n"]
) -> tuple[Int[np.ndarray, "kept"], Int[np.ndarray, "kept"]]:
    """Return the candidate pairs of near-duplicate documents (left, right) for which the mask
    `keep` is true."""
    return left[keep], right[keep]


def _bucket_keys(rows: UInt32[np.ndarray, "n rows"]) -> UInt64[np.ndarray, "n"]:
    """Return the bucket key of each text in one band of the near-duplicate search: a hash of the
    band's sketch values."""
    key = np.zeros(len(rows), np.uint64)
    for column in rows.T:
        key = mix_uint64(key ^ column.astype(np.uint64))
    return key
