"""Work folder of an unfinished harvest: the lock that lets one process at a time work in it, which
shards and checkpoints earlier processes left there, and whether all shards are complete."""

import os
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from backend.harvest.checkpoint import Shard, load_checkpoint
from backend.harvest.forward_batches import BatchFeed, plan_forward_batches
from backend.harvest.harvest_plan import HarvestPlan
from feature_store.errors import InputError
from feature_store.strict_json import parse_json


class WorkLock:
    """Lock that lets one process at a time work on a harvest's folder.

    Where another process holds the lock, the InputError names that process. `patience_s` is how
    long to wait for the other process before the error, in seconds.
    """

    def __init__(self, folder: Path, description: str, patience_s: float = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock")
        self._pid = folder / "pid"
        self._what = description
        self._patience_s = patience_s

    def __enter__(self) -> "WorkLock":
        """Acquire the lock and write this process's id next to it, or raise InputError after
        `patience_s` seconds."""
        try:
            self._lock.acquire(timeout=self._patience_s)
        except Timeout as error:
            pid = self._pid.read_text().strip() if self._pid.exists() else "unknown"
            raise InputError(
                f"{self._what} is being made by process {pid}. Wait until it ends, or stop it: "
                "the same command then resumes where it stopped."
            ) from error
        self._pid.write_text(str(os.getpid()))
        return self

    def __exit__(self, *exc: object) -> None:
        """Remove the process id and release the lock."""
        with suppress(FileNotFoundError):
            self._pid.unlink()
        self._lock.release()


def remove_abandoned_drafts(work: Path) -> None:
    """Remove from the work folder drafts of sequence plans whose processes were killed."""
    for draft in work.glob("planning-*"):
        if not process_is_alive(int(draft.name.rpartition("-")[2])):
            shutil.rmtree(draft, ignore_errors=True)


def process_is_alive(pid: int) -> bool:
    """Return whether the process that made a draft in the work folder is still running on this
    machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def find_unused_id(store: Path, preferred: str) -> str:
    """Return a harvest id that no finished harvest has: `preferred`, or `preferred` with the first
    free number from 2."""
    number, name = 2, preferred
    while (store / "harvests" / f"{name}.duckdb").exists():
        name, number = f"{preferred}-{number}", number + 1
    return name


def find_existing_shards(work: Path) -> Shard | None:
    """Return shard 0 of the division into shards that earlier processes of this harvest used, or
    None where there is no checkpoint."""
    for path in sorted(work.glob("shard-*-of-*")):
        if (path / "state.safetensors").exists():
            return Shard(0, int(path.name.rpartition("-")[2]))
    return None


def all_shards_complete(work: Path, count: int, feed: BatchFeed, plan: HarvestPlan) -> bool:
    """Return whether the checkpoints in the work folder have reached the end of every shard."""
    n = len(plan_forward_batches(np.asarray(feed.plan.length), plan.forward_batch))
    parts = [Shard(index, count) for index in range(count)]
    checkpoints = [load_checkpoint(part.folder(work)) for part in parts]
    return all(
        checkpoint is not None and checkpoint.next_batch >= part.bounds(n)[1]
        for part, checkpoint in zip(parts, checkpoints, strict=True)
    )


def read_start_time(work: Path) -> datetime:
    """Return when the harvest was first started (UTC), from the work folder's configuration."""
    return datetime.fromisoformat(parse_json((work / "config.json").read_text())["started"])
