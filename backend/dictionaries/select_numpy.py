"""Selection of the surviving activations of an encoder tile with numpy, in the memory of a torch
CPU tensor."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.dictionaries.activation_rules import (
    ActivationRule,
    GroupMaxRule,
    ThresholdRule,
    TopKRule,
)
from backend.dictionaries.base import Triples

GROUPS = 256
"""Number of groups per block for the lower bound on the k-th largest entry: with k = 32, one or two
candidates too many remain."""


class NumpySelector:
    """Selects with numpy on the CPU which pre-activations of an encoder tile (some tokens) stay
    non-zero under the activation rule, one block of features after another."""

    def __init__(self, rule: ActivationRule, rows: int, d_sae: int) -> None:
        self.rule = rule
        self.rows = rows
        self.d_sae = d_sae
        self.blocks: list[tuple[NDArray, NDArray, NDArray]] = []
        """(token, feature, value) arrays of each block's survivors or candidates."""
        self.peaks: NDArray | None = None
        """Largest group maxima so far, [rows ≤k]: the bound that later blocks must reach."""

    def add_block(self, pre: Tensor, start: int) -> None:
        """Find with numpy the surviving activations in a block of pre-activations [rows width],
        those of the features from `start` on; `pre` is not kept."""
        block = pre.numpy()
        if isinstance(self.rule, GroupMaxRule):
            self.blocks.append(_group_max(block, self.rule.k))
            return
        flat = np.flatnonzero(self._mask(block, start))
        token, feature = np.divmod(flat, block.shape[1])
        self.blocks.append((token, feature + start, block.reshape(-1)[flat]))

    def _mask(self, block: NDArray, start: int) -> NDArray:
        """Return, as a numpy mask, which pre-activations of a block survive or may survive the
        activation rule."""
        match self.rule:
            case ThresholdRule(threshold=None):
                return block > 0
            case ThresholdRule(threshold=Tensor() as threshold):
                return block > threshold[start : start + block.shape[1]].numpy()
            case TopKRule(k=k, by_magnitude=by_magnitude):
                return self._reaches_bound(np.abs(block) if by_magnitude else block, k)
        return block != 0

    def _reaches_bound(self, ranked: NDArray, k: int) -> NDArray:
        """Return for TopK which pre-activations of a block reach the lower bound on their token's
        k-th largest one, and raise that bound with the block's values."""
        peaks = _group_peaks(ranked, k)
        if self.peaks is not None:
            peaks = np.concatenate([self.peaks, peaks], axis=1)
        if peaks.shape[1] < k:
            self.peaks = peaks
            return ranked > 0
        self.peaks = _largest(peaks, k)
        bound = self.peaks.min(axis=1, keepdims=True)
        # >= the smallest positive number is > 0: zeros and below never survive
        return ranked >= np.maximum(bound, np.nextafter(bound.dtype.type(0), bound.dtype.type(1)))

    def collect(self) -> Triples:
        """Return the activations that survive in all numpy blocks of the tile as triples."""
        token, feature, value = (
            np.concatenate(column) for column in zip(*self.blocks, strict=True)
        )
        if len(self.blocks) > 1:  # each block is in order; together they are not
            order = np.argsort(token * self.d_sae + feature, kind="stable")
            token, feature, value = token[order], feature[order], value[order]
        if isinstance(self.rule, TopKRule):
            keep = _trim_to_k(token, np.abs(value), self.rows, self.rule.k)
            token, feature, value = token[keep], feature[keep], value[keep]
        return Triples(
            torch.from_numpy(token.astype(np.int32)),
            torch.from_numpy(feature.astype(np.int32)),
            torch.from_numpy(value),
        )


def _group_peaks(ranked: NDArray, k: int) -> NDArray:
    """Return the maxima of at least 4 k disjoint groups of each token's pre-activations, [rows
    groups], or all pre-activations of a narrow block. Their k-th largest is a lower bound for TopK.

    Entries of a remainder that no group holds only make the bound lower.
    """
    rows, width = ranked.shape
    groups = max(GROUPS, 4 * k)
    size = width // groups
    if size < 2:
        return ranked
    # Neighbours in a group are `groups` apart: then the maximum runs down columns, vectorised.
    return ranked[:, : size * groups].reshape(rows, size, groups).max(axis=1)


def _largest(values: NDArray, k: int) -> NDArray:
    """Return the k largest values of each row of a numpy array, [rows k], unordered; all of a
    shorter row."""
    width = values.shape[1]
    if width <= k:
        return values
    return np.partition(values, width - k, axis=1)[:, width - k :]


def _trim_to_k(token: NDArray, ranked: NDArray, rows: int, k: int) -> NDArray:
    """Return a mask of the TopK candidates (sorted by token) that are among their token's k
    largest."""
    counts = np.bincount(token, minlength=rows)
    keep = np.ones(len(token), dtype=bool)
    crowded = np.flatnonzero(counts > k)
    if not len(crowded):
        return keep
    starts = (np.cumsum(counts) - counts)[crowded]
    widest = int(counts[crowded].max())
    at = starts[:, None] + np.arange(widest)
    real = np.arange(widest) < counts[crowded][:, None]
    table = np.where(real, ranked[np.minimum(at, len(token) - 1)], -np.inf)
    least = np.argpartition(table, widest - k, axis=1)[:, : widest - k]
    rejected = np.take_along_axis(at, least, axis=1)
    keep[rejected[np.take_along_axis(real, least, axis=1)]] = False
    return keep


def _group_max(block: NDArray, k: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return (token, feature, value) arrays of the GroupMax activations: the largest of each of k
    groups of neighbouring features, where it is positive."""
    rows, width = block.shape
    size = width // k
    at = block.reshape(rows, k, size).argmax(axis=2) + np.arange(k) * size
    value = np.take_along_axis(block, at, axis=1)
    token, group = np.nonzero(value > 0)
    return token, at[token, group], value[token, group]
