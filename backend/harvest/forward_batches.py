"""Forward batches: the order in which a plan's sequences are fed to the model, the padded token
batches of each forward pass, and the per-token rows of a chunk."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from backend.corpus import SequencePlan
from backend.harvest.activation_runs import TokenRows
from backend.harvest.coactivation import token_levels
from backend.harvest.sampling_hashes import hash_ids, select_by_hash
from backend.harvest.window_grid import WindowGrid

SEQUENCES_PER_SORT = 1024
"""Sequences sorted by length at a time, so that a forward batch needs little padding."""
COACTIVE_SEED, SAMPLE_SEED = 0xC0AC, 0x70CE


def plan_forward_batches(lengths: np.ndarray, forward_batch: int) -> list[np.ndarray]:
    """Return the sequence numbers of each forward batch, with at most `forward_batch` tokens per
    batch, padding included.

    The batches depend on the lengths alone, so a resumed harvest forms the same ones.
    """
    forward_batches: list[np.ndarray] = []
    for begin in range(0, len(lengths), SEQUENCES_PER_SORT):
        slab = np.arange(begin, min(begin + SEQUENCES_PER_SORT, len(lengths)), dtype=np.int64)
        slab = slab[np.argsort(lengths[slab], kind="stable")]
        while len(slab):
            longest = np.asarray(lengths[slab])
            fits = longest * np.arange(1, len(slab) + 1) <= forward_batch
            n = max(1, int(fits.sum()))  # lengths rise, so the fitting ones come first
            forward_batches.append(slab[:n])
            slab = slab[n:]
    return forward_batches


@dataclass(frozen=True)
class ForwardBatch:
    """Tokens of one forward pass, padded on the right, and which of them are counted."""

    tokens: Tensor
    """Token ids, int64 [sequence, position], padded on the right."""
    counted: Tensor
    """Flat indices of the counted tokens in [sequence · position]."""
    row: Tensor
    """Row of each counted token among the batch's tokens without padding, int32."""
    n_rows: int


@dataclass(frozen=True)
class TokenSampling:
    """What determines a harvest's samples of tokens, the same for all dictionaries: the random seed
    and the windows of the silent pool."""

    seed: int
    silent: np.ndarray
    """Windows of the silent pool, in ascending order."""


class BatchFeed:
    """Makes the padded token batches of the model's forward passes, and the per-token rows of a
    chunk, from a sequence plan, on one device."""

    def __init__(
        self, plan: SequencePlan, windows: WindowGrid, sampling: TokenSampling, device: torch.device
    ) -> None:
        self.plan = plan
        self.windows = windows
        self.device = device
        self._seed = sampling.seed
        self._silent = np.zeros(len(windows), dtype=bool)
        self._silent[sampling.silent] = True
        self._special = np.array(sorted(plan.special_ids), dtype=np.int64)

    def batch(self, sequences: np.ndarray) -> ForwardBatch:
        """Return the forward batch of the numbered `sequences`. Shorter sequences are padded with
        their own first token, and padding is never counted."""
        length = np.asarray(self.plan.length[sequences], dtype=np.int64)
        width = int(length.max())
        offset = np.asarray(self.plan.offset[sequences])
        position = np.arange(width)
        is_token = position[None, :] < length[:, None]
        index = offset[:, None] + np.where(is_token, position[None, :], 0)
        tokens = np.asarray(self.plan.every_token[index]).astype(np.int64)
        counted = is_token & ~np.isin(tokens, self._special)
        row = np.cumsum(is_token.reshape(-1)) - 1
        flat = np.flatnonzero(counted)
        to = lambda array: torch.from_numpy(array).to(self.device)  # noqa: E731
        return ForwardBatch(to(tokens), to(flat), to(row[flat].astype(np.int32)), int(length.sum()))

    def rows(self, sequences: np.ndarray, sample_rates: list[float]) -> Iterator[TokenRows]:
        """Yield the table of a chunk's tokens (window, split, document, position) once for each
        dictionary; the tables differ only in which tokens are in the token sample."""
        length = np.asarray(self.plan.length[sequences], dtype=np.int64)
        begin = np.cumsum(length) - length
        position = np.arange(int(length.sum())) - np.repeat(begin, length)
        token = np.repeat(np.asarray(self.plan.offset[sequences]), length) + position
        first = self.windows.first
        window_ids, _ = expand_ranges(first[sequences], first[sequences + 1])
        window = np.repeat(window_ids, self.windows.length[window_ids])
        document = self.windows.document[window]
        sequence = np.repeat(sequences, length)
        bounds, grid = segment_bounds(document, sequence), segment_bounds(window, sequence)
        columns = {
            "window": window,
            "split": self.windows.split[window],
            "document": document,
            "position": position,
            "token_id": self.plan.every_token[token],
            "document_start": bounds[0],
            "document_end": bounds[1],
            "window_start": grid[0],
            "window_end": grid[1],
        }
        shared = {
            name: torch.from_numpy(np.asarray(values).astype(np.int32)).to(self.device)
            for name, values in columns.items()
        }
        ids = torch.from_numpy(token.astype(np.int32)).to(self.device)
        in_silent_pool = torch.from_numpy(self._silent[window]).to(self.device)
        window_hash = hash_ids(shared["window"], self._seed)
        level = token_levels(hash_ids(ids, self._seed ^ COACTIVE_SEED))
        for rate in sample_rates:
            yield TokenRows(
                window_hash=window_hash,
                in_silent_pool=in_silent_pool,
                level=level,
                in_token_sample=select_by_hash(ids, self._seed ^ SAMPLE_SEED, rate),
                **shared,
            )


def expand_ranges(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the integers of all ranges [begin, end) one after the other, such as the numbers of
    the windows in a batch's sequences, and for each integer the index of its range."""
    length = end - begin
    owner = np.repeat(np.arange(len(begin)), length)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(length) - length, length)
    return begin[owner] + within, owner


def segment_bounds(key: np.ndarray, sequence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each token row of a batch the bounds of its document or window (`key`) within its
    sequence: its first row and one past its last."""
    new = np.ones(len(key), dtype=bool)
    new[1:] = (key[1:] != key[:-1]) | (sequence[1:] != sequence[:-1])
    first = np.flatnonzero(new)
    length = np.diff(first, append=len(key))
    return np.repeat(first, length), np.repeat(first + length, length)
