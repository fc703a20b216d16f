"""Work folder of an unfinished harvest: which shards and checkpoints earlier processes left in it,
and whether all shards are complete."""

import os
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np

from backend.harvest.checkpoint import Shard, load_checkpoint
from backend.harvest.forward_batches import BatchFeed, plan_forward_batches
from backend.harvest.harvest_plan import HarvestPlan
from feature_store.strict_json import parse_json


def remove_abandoned_drafts(work: Path) -> None:
    """Remove drafts of sequence plans whose processes were killed."""
    for draft in work.glob("planning-*"):
        if not process_is_alive(int(draft.name.rpartition("-")[2])):
            shutil.rmtree(draft, ignore_errors=True)


def process_is_alive(pid: int) -> bool:
    """Return whether a process with this id is running on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def find_unused_id(store: Path, preferred: str) -> str:
    """Return the id `preferred`, or `preferred` with the first number from 2 that no finished
    harvest has."""
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
