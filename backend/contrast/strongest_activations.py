"""One number a document and feature, kept sparse: most features are silent on most texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int


@dataclass(frozen=True, eq=False)
class StrongestActivations:
    """Of each document and feature the activation of largest magnitude, sign kept.

    Triples ordered by feature, then document; what is absent is 0, a feature silent on a document.
    """

    documents: int
    width: int
    """Features that the dictionary has."""
    document: Int[np.ndarray, "n"]
    feature: Int[np.ndarray, "n"]
    value: Float32[np.ndarray, "n"]

    @classmethod
    def joined(
        cls,
        parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
        documents: int,
        width: int,
    ) -> "StrongestActivations":
        """From (document, feature, value) of batches that share no document."""
        empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        columns = [np.concatenate(column) for column in zip(empty, *parts, strict=True)]
        document, feature, value = keep_strongest(*columns)
        return cls(documents, width, document, feature, value)

    @property
    def active(self) -> Int[np.ndarray, "m"]:
        """The features that fire on any document, in order."""
        return np.unique(self.feature)

    def tile(self, features: Int[np.ndarray, "f"]) -> Float32[np.ndarray, "documents f"]:
        """A few features' values on every document; `features` in ascending order."""
        dense = np.zeros((self.documents, len(features)), np.float32)
        if not len(features):
            return dense
        first, last = np.searchsorted(self.feature, [features[0], features[-1] + 1])
        column = np.searchsorted(features, self.feature[first:last])
        mine = features[column] == self.feature[first:last]
        dense[self.document[first:last][mine], column[mine]] = self.value[first:last][mine]
        return dense

    def of(self, feature: int) -> Float32[np.ndarray, "documents"]:
        """One feature's value on every document."""
        return self.tile(np.array([feature]))[:, 0]


def keep_strongest(
    document: np.ndarray, feature: np.ndarray, value: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every document and feature the value of largest magnitude, by feature, then document."""
    order = np.lexsort((np.abs(value), document, feature))
    document, feature, value = document[order], feature[order], value[order]
    changes = (np.diff(feature) != 0) | (np.diff(document) != 0)
    last = np.append(changes, True)[: len(value)]
    return document[last], feature[last], value[last].astype(np.float32)
