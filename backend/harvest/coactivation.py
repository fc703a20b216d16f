"""Co-activation: on how many tokens two features of a dictionary fire together, for all pairs of
features.

`PairTable` counts every token where a table of all pairs fits into memory; `PairSample` counts a
sample of tokens, chosen by hash, that shrinks when too many pairs are held. Both results depend
only on the set of triples, not on their order or their division into parts.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from backend.harvest.segments import expand_segments, select_rows, true_indices

MAX_TABLE_BYTES = 1 << 26
"""Memory of one dictionary's table of all pairs, in bytes: enough for 4,095 features."""
MAX_TOTAL_BYTES = 1 << 30
"""Memory of all dictionaries' tables of pairs together, in bytes."""
MAX_SAMPLED_PAIRS = 1 << 22
"""Pairs of features that a co-activation sample holds at most, 12 bytes each."""
WORK_PER_TOKEN = 32
"""Pairs that a co-activation sample examines per token of the harvest, on average and at most
about."""
MIN_WORK = 1 << 21
"""Pairs that a co-activation sample examines even in a short harvest."""
FLUSH_PAIRS = 1 << 20
"""Pairs gathered in a buffer before the co-activation sample counts them."""
KEYS_PER_UPDATE = 1 << 17
"""Cells of the pair table incremented at a time, few enough to stay in the processor's cache."""
DENSE_ROWS = 2048
"""Tokens of one matrix product in the dense counting of co-active pairs."""
DENSE_GAIN = 100
"""How many times cheaper counting a pair is in a matrix product than in a list of pairs."""
N_LEVELS = 31
MAX_LENGTH_RATIO = 1.3
"""Ratio of the longest to the shortest list of active features in a block of tokens, about."""
_BITS = 25
"""Bits that a feature number takes in the key of a pair."""


@dataclass(frozen=True)
class JointCounts:
    """Joint firing counts of pairs of features (the tokens on which both are active), as the
    harvest stores them: either a table of all pairs or a list of sampled pairs."""

    rate: float
    """Share of tokens, chosen by hash, on which the pairs were counted; 1 means all tokens."""
    active: Int[np.ndarray, "d_sae"]
    """Number of the counted tokens on which each feature is active."""
    table: Int[np.ndarray, "d_sae d_sae"] | None
    """Joint counts of all pairs of features, or None where `left`, `right` and `count` list the
    sampled pairs."""
    left: np.ndarray
    right: np.ndarray
    count: np.ndarray


def pair_table_fits(d_sae: int, n_dictionaries: int) -> bool:
    """Return whether a table of all pairs of `d_sae` features fits into memory, in a harvest of
    `n_dictionaries` dictionaries."""
    return d_sae * (d_sae + 1) * 4 <= min(
        MAX_TABLE_BYTES, MAX_TOTAL_BYTES // max(1, n_dictionaries)
    )


def initial_sample_level(l0: float, n_tokens: int) -> int:
    """Return the token level at which a co-activation sample begins, so that the pairs it examines
    stay within bounds for this L0 and number of tokens."""
    pairs = max(l0, 1.0) * max(l0 - 1, 1.0) / 2 * n_tokens
    excess = pairs / max(MIN_WORK, WORK_PER_TOKEN * n_tokens)
    return min(N_LEVELS, max(0, math.ceil(math.log2(excess)))) if excess > 0 else 0


def token_levels(hashed: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Return the sampling level of each token from its int32 hash: on average one token in 2^n has
    level n or more, so tokens of a minimum level are a random sample.

    The level is the number of leading zeros among the hash's 31 low bits, so the tokens of level n
    or more are those whose hash is below 2^(31 − n).
    """
    value = (hashed & 0x7FFFFFFF).double()
    _, exponent = torch.frexp(value)  # value < 2^exponent, and 0 for 0
    return (N_LEVELS - exponent).to(torch.int32)


class PairTable:
    """Table of joint firing counts of all pairs of a dictionary's features, counted on every
    token."""

    def __init__(self, d_sae: int, device: torch.device) -> None:
        self.d_sae = d_sae
        # Each pair is counted in one of its two cells. The extra column counts the padding that
        # brings lists of features to one length.
        self._table = torch.zeros(d_sae * (d_sae + 1), dtype=torch.int32, device=device)
        self._active = torch.zeros(d_sae, dtype=torch.int64, device=device)

    def add(self, row: Int[Tensor, "nnz"], feature: Int[Tensor, "nnz"], level: Tensor) -> None:
        """Count the pairs of features that are active on the same token of one chunk. `row` and
        `feature` have one entry per active (token, feature), in token order. A table counts every
        token, so `level` is ignored."""
        if not len(row):
            return
        self._active += torch.bincount(feature, minlength=self.d_sae)
        begin, length = token_entry_ranges(row)
        lengths = length.cpu().numpy()
        # Lists cost the square of their length, the matrix product the square of d_sae.
        if float((lengths.astype(float) ** 2).mean()) * DENSE_GAIN > self.d_sae**2:
            self._add_products(feature, length)
            return
        for numbers in group_by_length(lengths):
            rows = torch.from_numpy(numbers).to(row.device)
            self._add_lists(
                feature,
                select_rows(begin, rows),
                select_rows(length, rows),
                int(lengths[numbers[-1]]),
            )

    def _add_lists(self, feature: Tensor, begin: Tensor, length: Tensor, longest: int) -> None:
        """Count the co-active feature pairs of tokens whose lists of active features have about the
        same length.

        In a ring with an odd number of places, any two places are within half a turn of each other
        in one direction only, so every entry is paired with those of the half turn after it.
        Entries are taken feature by feature, so that neighbouring cells of the table are
        incremented together.
        """
        index, owner = expand_segments(begin, begin + length)
        features = select_rows(feature, index).to(torch.int32)
        position = torch.arange(len(index), device=index.device)
        position -= select_rows(torch.cumsum(length, 0) - length, owner)
        ring_size, half_turn = longest | 1, longest // 2
        rings = features.new_full((len(begin), 2 * ring_size), self.d_sae)
        start = owner * (2 * ring_size) + position
        rings.view(-1)[start] = features
        rings[:, ring_size:] = rings[:, :ring_size]
        # Row i of `following` holds the half turn of entries from place i on, without a copy.
        following = rings.view(-1).as_strided((rings.numel() - half_turn + 1, half_turn), (1, 1))
        narrow = torch.int16 if self.d_sae < 1 << 15 else torch.int32
        order = torch.sort(features.to(narrow), stable=True).indices
        base, start = select_rows(features, order) * (self.d_sae + 1), select_rows(start, order) + 1
        ones = torch.ones(1, dtype=torch.int32, device=feature.device)
        step = max(1, KEYS_PER_UPDATE // max(1, half_turn))
        for low in range(0, len(order) if half_turn else 0, step):
            keys = select_rows(following, start[low : low + step])
            keys += base[low : low + step, None]
            self._table.index_add_(0, keys.view(-1), ones.expand(keys.numel()))

    def _add_products(self, feature: Tensor, length: Tensor) -> None:
        """Count the co-active feature pairs of tokens on which many features fire, by a product of
        matrices of 0 and 1. The product is exact in float32 because no count of a block exceeds
        2^24."""
        first, square = 0, self._table.view(self.d_sae, self.d_sae + 1)[:, : self.d_sae]
        for part in length.split(DENSE_ROWS):
            n = int(part.sum())
            owner = torch.repeat_interleave(torch.arange(len(part), device=part.device), part)
            fires = torch.zeros(len(part), self.d_sae, device=part.device)
            fires[owner, feature[first : first + n].long()] = 1.0
            square += (fires.T @ fires).triu(1).to(torch.int32)
            first += n

    def state(self) -> dict[str, np.ndarray]:
        """Return the co-activation counts of all pairs for a checkpoint, each in as few bytes as
        the largest count needs."""
        square = self._square()
        largest = int(square.max(initial=0))
        dtype = next(k for k in (np.uint8, np.uint16, np.int32) if largest <= np.iinfo(k).max)
        return {
            "triangle": square[np.tri(self.d_sae, dtype=bool)].astype(dtype),
            "active": self._active.cpu().numpy(),
        }

    def merge(self, triangle: np.ndarray, active: np.ndarray) -> None:
        """Add the co-activation counts of another shard or checkpoint to this table of all
        pairs."""
        square = np.zeros((self.d_sae, self.d_sae), dtype=np.int32)
        square[np.tri(self.d_sae, dtype=bool)] = triangle
        counts = self._table.view(self.d_sae, self.d_sae + 1)[:, : self.d_sae]
        counts += torch.from_numpy(square).to(counts.device)
        self._active += torch.from_numpy(active).to(counts.device)

    def joint(self) -> JointCounts:
        """Return the joint firing counts of all pairs of features, counted on every token."""
        empty = np.empty(0, dtype=np.int64)
        return JointCounts(1.0, self._active.cpu().numpy(), self._square(), empty, empty, empty)

    def _square(self) -> np.ndarray:
        """Return the joint firing counts of features as a symmetric matrix, [d_sae, d_sae], with
        zeros on the diagonal."""
        square = self._table.view(self.d_sae, self.d_sae + 1)[:, : self.d_sae].cpu().numpy()
        return square + square.T

    @property
    def nbytes(self) -> int:
        """Memory of the table of co-activation counts, in bytes."""
        return self._table.numel() * 4 + self._active.numel() * 8


class PairSample:
    """Joint firing counts of feature pairs on a sample of tokens: those whose level, a random
    number, is at least the lowest level at which the pairs still fit into memory.

    Pairs are counted by level. While more than `MAX_SAMPLED_PAIRS` are held, the pairs of the
    lowest level are dropped, so the final level follows from all tokens together, whatever their
    order.
    """

    def __init__(self, d_sae: int, first: int) -> None:
        self.d_sae = d_sae
        self.level = first
        self.keys = np.empty(0, dtype=np.int64)
        """Keys of the sampled pairs, ascending: level << 50 | smaller feature << 25 | larger
        feature."""
        self.count = np.empty(0, dtype=np.int32)
        self.active = np.zeros((N_LEVELS + 1, d_sae), dtype=np.int32)
        """Number of sampled tokens of each level on which each feature is active: [level,
        d_sae]."""
        self._raw: list[np.ndarray] = []
        self._n_raw = 0

    def add(self, row: Int[Tensor, "nnz"], feature: Int[Tensor, "nnz"], level: Tensor) -> None:
        """Count the co-active pairs of the sampled tokens of one chunk; `level` holds the level of
        each of the chunk's rows."""
        row_level = select_rows(level, row)
        selected = true_indices(row_level >= self.level)
        row, feature, row_level = (
            select_rows(row, selected),
            select_rows(feature, selected),
            select_rows(row_level, selected),
        )
        if not len(row):
            return
        flat = row_level.long() * self.d_sae + feature.long()
        counts = torch.bincount(flat, minlength=self.active.size).cpu().numpy()
        self.active += counts.reshape(self.active.shape).astype(np.int32)
        begin, length = token_entry_ranges(row)
        pairs = length * (length - 1) // 2
        too_many = select_rows(row_level, begin)[pairs > MAX_SAMPLED_PAIRS]
        if len(too_many):  # one token's pairs alone would not fit
            self._raise_level(int(too_many.max()) + 1)
        for first, last in split_into_blocks(
            pairs.cpu().numpy(), select_rows(row_level, begin).cpu().numpy(), self
        ):
            self._add_block(feature, row_level, begin[first:last], length[first:last])

    def _add_block(self, feature: Tensor, row_level: Tensor, begin: Tensor, length: Tensor) -> None:
        """List the pairs of co-active features of one block of sampled tokens, and gather their
        keys."""
        selected = true_indices(select_rows(row_level, begin) >= self.level)
        if not len(selected):
            return
        begin, length = select_rows(begin, selected), select_rows(length, selected)
        index, owner = expand_segments(begin, begin + length)
        second, entry = expand_segments(index + 1, select_rows(begin + length, owner))
        a, b = (
            select_rows(feature, select_rows(index, entry)).long(),
            select_rows(feature, second).long(),
        )
        low, high = torch.minimum(a, b), torch.maximum(a, b)
        keys = select_rows(row_level, second).long() << 2 * _BITS | low << _BITS | high
        self._raw.append(keys.cpu().numpy())
        self._n_raw += len(keys)
        if self._n_raw >= max(FLUSH_PAIRS, len(self.keys) // 2):
            self.flush()

    def flush(self) -> None:
        """Count the gathered pairs of co-active features, and drop the lowest token levels while
        more pairs are held than allowed."""
        if not self._raw:
            return
        keys, count = np.unique(np.concatenate(self._raw), return_counts=True)
        self._raw, self._n_raw = [], 0
        self._fold(keys, count.astype(np.int32))

    def _fold(self, keys: np.ndarray, count: np.ndarray) -> None:
        """Add counts of sorted pair keys to the co-activation sample, then raise its level until
        the pairs fit."""
        keys, count = np.concatenate([self.keys, keys]), np.concatenate([self.count, count])
        order = np.argsort(keys, kind="stable")  # two rising runs: a merge
        keys, count = keys[order], count[order]
        new = np.ones(len(keys), dtype=bool)
        new[1:] = keys[1:] != keys[:-1]
        begin = np.flatnonzero(new)
        self.keys = keys[begin]
        self.count = np.add.reduceat(count, begin) if len(begin) else count
        self._cut()
        while len(self.keys) > MAX_SAMPLED_PAIRS:
            self._raise_level(self.level + 1)

    def _raise_level(self, level: int) -> None:
        """Raise the co-activation sample's lowest token level and drop the pairs below it."""
        self.level = max(self.level, level)
        self._cut()

    def _cut(self) -> None:
        """Drop the pairs and activity counts below the co-activation sample's current level."""
        low = int(np.searchsorted(self.keys, self.level << 2 * _BITS))
        self.keys, self.count = self.keys[low:], self.count[low:]
        self.active[: self.level] = 0

    def state(self) -> dict[str, np.ndarray]:
        """Return the co-activation sample's pair keys, counts and level as arrays for a
        checkpoint."""
        self.flush()
        level = np.array([self.level], dtype=np.int32)
        return {"keys": self.keys, "count": self.count, "active": self.active, "level": level}

    def merge(
        self, keys: np.ndarray, count: np.ndarray, active: np.ndarray, level: np.ndarray
    ) -> None:
        """Add the co-activation counts of another shard or checkpoint to this sample."""
        self.flush()
        self._raise_level(int(level[0]))
        self.active += active
        self._fold(keys, count)

    def joint(self) -> JointCounts:
        """Return the joint firing counts of the sampled feature pairs, summed over token levels."""
        self.flush()
        pair = self.keys & (1 << 2 * _BITS) - 1
        keys, index = np.unique(pair, return_inverse=True)
        count = np.bincount(index, weights=self.count, minlength=len(keys)).astype(np.int64)
        active = self.active[self.level :].sum(axis=0, dtype=np.int64)
        return JointCounts(
            2.0**-self.level, active, None, keys >> _BITS, keys & (1 << _BITS) - 1, count
        )

    @property
    def nbytes(self) -> int:
        """Memory of the sampled co-activation counts, in bytes."""
        return self.keys.nbytes + self.count.nbytes + self.active.nbytes


def token_entry_ranges(row: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each token on which features are active where its active features begin in the
    list of all (token, feature) activations, and how many they are. `row` holds the token of each
    activation, in ascending order."""
    _, length = row.unique_consecutive(return_counts=True)
    return torch.cumsum(length, 0) - length, length


def group_by_length(length: np.ndarray) -> Iterator[np.ndarray]:
    """Yield groups of token numbers, such that the tokens of a group have about the same number of
    co-active features (`length`), by rising number."""
    order = np.argsort(length, kind="stable")
    ordered, low = length[order], 0
    while low < len(order):
        high = int(np.searchsorted(ordered, MAX_LENGTH_RATIO * ordered[low], "right"))
        yield order[low:high]
        low = high


def split_into_blocks(
    pairs: np.ndarray, level: np.ndarray, sample: PairSample
) -> Iterator[tuple[int, int]]:
    """Yield (first, last) bounds of blocks of consecutive tokens that together have at most
    `FLUSH_PAIRS` pairs of co-active features, or of a single token with more."""
    wanted = np.where(level >= sample.level, pairs, 0)
    total, first = np.cumsum(wanted), 0
    while first < len(pairs):
        done = int(total[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(total, done + FLUSH_PAIRS, "right")))
        yield first, last
        first = last
