"""A shard's state on disk: written beside, forced out, renamed over the last one."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from feature_store.errors import InputError
from feature_store.strict_json import JsonError, dump_json, parse_json


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of a harvest's batches."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise InputError(
                f"There is no shard {self.index + 1} of {self.count}: write --shard I/N with I "
                "from 1 to N."
            )

    def bounds(self, n: int) -> tuple[int, int]:
        """First batch of the shard, and one past its last, of `n`."""
        return self.index * n // self.count, (self.index + 1) * n // self.count

    def folder(self, work: Path) -> Path:
        """Where the shard keeps its state and spools."""
        return work / f"shard-{self.index + 1}-of-{self.count}"


@dataclass(frozen=True)
class Checkpoint:
    """How far a shard has come."""

    next_batch: int
    tokens: int
    """Counted tokens behind it."""
    spooled: dict[str, int]
    """Words of each dictionary's spool that belong to it."""
    state: dict[str, dict[str, np.ndarray]]
    """Each accumulator's state."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the folder's checkpoint in one step: a kill leaves the old one or the new one."""
    names = sorted(checkpoint.state)
    arrays = {
        f"{number}/{key}": np.ascontiguousarray(value)
        for number, name in enumerate(names)
        for key, value in checkpoint.state[name].items()
    }
    facts = {"next_batch": checkpoint.next_batch, "tokens": checkpoint.tokens}
    facts |= {"spooled": checkpoint.spooled, "names": names}
    fresh = folder / "state.new"
    save_file(arrays, fresh, metadata={"saefari": dump_json(facts, ascii_only=True)})
    with fresh.open("rb") as handle:
        os.fsync(handle.fileno())
    fresh.replace(folder / "state.safetensors")


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The folder's checkpoint; None when there is none. InputError when it is damaged."""
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


class WorkLock:
    """One process at a time on a shard; the error names the one that has it.

    `patience_s`: how long to wait for another process before that error.
    """

    def __init__(self, folder: Path, what: str, patience_s: float = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock")
        self._pid = folder / "pid"
        self._what = what
        self._patience_s = patience_s

    def __enter__(self) -> "WorkLock":
        try:
            self._lock.acquire(timeout=self._patience_s)
        except Timeout as error:
            pid = self._pid.read_text().strip() if self._pid.exists() else "unknown"
            raise InputError(
                f"{self._what} is being made by process {pid}. Wait until it ends, or stop it: "
                "the same command then goes on where it was."
            ) from error
        self._pid.write_text(str(os.getpid()))
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(FileNotFoundError):
            self._pid.unlink()
        self._lock.release()
