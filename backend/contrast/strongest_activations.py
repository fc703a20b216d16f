"""The strongest activation of each feature on each document, as sparse triples, since most features
are silent on most documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int


@dataclass(frozen=True, eq=False)
class StrongestActivations:
    """The activation of largest magnitude, with its sign, of each feature on each document.

    Triples (document, feature, value) ordered by feature, then document; absent pairs are 0, a
    feature silent on a document.
    """

    documents: int
    width: int
    """Number of features of the dictionary."""
    document: Int[np.ndarray, "n"]
    feature: Int[np.ndarray, "n"]
    value: Float32[np.ndarray, "n"]

    @classmethod
    def from_batches(
        cls,
        parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
        documents: int,
        width: int,
    ) -> "StrongestActivations":
        """Build the strongest activations from (document, feature, value) triples of batches that
        have no document in common.
        """
        empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        columns = [np.concatenate(column) for column in zip(empty, *parts, strict=True)]
        document, feature, value = keep_strongest(*columns)
        return cls(documents, width, document, feature, value)

    @property
    def active(self) -> Int[np.ndarray, "m"]:
        """Indices of the features with a nonzero strongest activation on any document,
        ascending.
        """
        return np.unique(self.feature)

    def tile(self, features: Int[np.ndarray, "f"]) -> Float32[np.ndarray, "documents f"]:
        """Return the strongest activations of a few features as a dense matrix [documents,
        features]; `features` ascending.
        """
        dense = np.zeros((self.documents, len(features)), np.float32)
        if not len(features):
            return dense
        first, last = np.searchsorted(self.feature, [features[0], features[-1] + 1])
        column = np.searchsorted(features, self.feature[first:last])
        mine = features[column] == self.feature[first:last]
        dense[self.document[first:last][mine], column[mine]] = self.value[first:last][mine]
        return dense

    def of(self, feature: int) -> Float32[np.ndarray, "documents"]:
        """Return one feature's strongest activation on every document, [documents]; 0 where it is
        silent.
        """
        return self.tile(np.array([feature]))[:, 0]


def keep_strongest(
    document: np.ndarray, feature: np.ndarray, value: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keep the activation of largest magnitude for each document and feature, ordered by feature,
    then document.
    """
    order = np.lexsort((np.abs(value), document, feature))
    document, feature, value = document[order], feature[order], value[order]
    changes = (np.diff(feature) != 0) | (np.diff(document) != 0)
    last = np.append(changes, True)[: len(value)]
    return document[last], feature[last], value[last].astype(np.float32)
