"""Checkpoints of a harvest: the state of one shard on disk, replaced atomically (written to a new
file, flushed, renamed), and the part of the harvest that a shard is."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from feature_store.errors import InputError
from feature_store.strict_json import JsonError, dump_json, parse_json


@dataclass(frozen=True)
class Shard:
    """Shard of a harvest, which one process works on: one of `count` equal parts of the harvest's
    forward batches."""

    index: int
    count: int

    def __post_init__(self) -> None:
        """Refuse a shard number outside 0 … count − 1 with an InputError."""
        if not 0 <= self.index < self.count:
            raise InputError(
                f"There is no shard {self.index + 1} of {self.count}: write --shard I/N with I "
                "from 1 to N."
            )

    def bounds(self, n: int) -> tuple[int, int]:
        """Return the first of the shard's batches and one past its last, where the harvest has `n`
        batches."""
        return self.index * n // self.count, (self.index + 1) * n // self.count

    def folder(self, work: Path) -> Path:
        """Return the folder inside the work folder where this shard keeps its checkpoint and its
        spools."""
        return work / f"shard-{self.index + 1}-of-{self.count}"


@dataclass(frozen=True)
class Checkpoint:
    """Checkpoint of one shard: how many batches it has processed, and the state of its accumulators
    at that moment."""

    next_batch: int
    tokens: int
    """Counted tokens that the shard has processed before this checkpoint."""
    spooled: dict[str, int]
    """Length of each dictionary's spool at this checkpoint, in words."""
    state: dict[str, dict[str, np.ndarray]]
    """State arrays of each dictionary's accumulator, by dictionary name and array name."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in a shard's folder atomically: after a kill the folder holds either
    the old checkpoint or the new one."""
    names = sorted(checkpoint.state)
    arrays = {
        f"{number}/{key}": np.ascontiguousarray(value)
        for number, name in enumerate(names)
        for key, value in checkpoint.state[name].items()
    }
    facts = {"next_batch": checkpoint.next_batch, "tokens": checkpoint.tokens}
    facts |= {"spooled": checkpoint.spooled, "names": names}
    new_file = folder / "state.new"
    save_file(arrays, new_file, metadata={"saefari": dump_json(facts, ascii_only=True)})
    with new_file.open("rb") as handle:  # on disk before the rename, even if power fails
        os.fsync(handle.fileno())
    new_file.replace(folder / "state.safetensors")


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the checkpoint in a shard's folder, or None where there is none. Raises InputError
    where the file is damaged."""
    path = folder / "state.safetensors"
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            facts: dict[str, Any] = parse_json(file.metadata()["saefari"])
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, JsonError) as error:
        raise InputError(
            f"The state of an interrupted harvest in {folder} cannot be read ({error}). "
            "Delete that folder and run the command again."
        ) from error
    state: dict[str, dict[str, np.ndarray]] = {name: {} for name in facts["names"]}
    for key, value in arrays.items():
        number, _, name = key.partition("/")
        state[facts["names"][int(number)]][name] = value
    return Checkpoint(facts["next_batch"], facts["tokens"], facts["spooled"], state)
