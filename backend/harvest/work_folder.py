"""What a harvest's work folder holds from before, and whether all of it is done."""

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
    """Remove the drafts of plans whose processes were killed."""
    for draft in work.glob("planning-*"):
        if not process_is_alive(int(draft.name.rpartition("-")[2])):
            shutil.rmtree(draft, ignore_errors=True)


def process_is_alive(pid: int) -> bool:
    """Whether a process of this number runs here."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def find_unused_id(store: Path, wanted: str) -> str:
    """`wanted`, or with the first number behind it that no finished harvest has."""
    number, name = 2, wanted
    while (store / "harvests" / f"{name}.duckdb").exists():
        name, number = f"{wanted}-{number}", number + 1
    return name


def find_existing_shards(work: Path) -> Shard | None:
    """The split that earlier processes began with, so that their shards are used."""
    for path in sorted(work.glob("shard-*-of-*")):
        if (path / "state.safetensors").exists():
            return Shard(0, int(path.name.rpartition("-")[2]))
    return None


def all_shards_complete(work: Path, count: int, feed: BatchFeed, plan: HarvestPlan) -> bool:
    """Whether every shard has reached its end."""
    n = len(plan_forward_batches(np.asarray(feed.plan.length), plan.forward_batch))
    parts = [Shard(index, count) for index in range(count)]
    found = [load_checkpoint(part.folder(work)) for part in parts]
    return all(
        checkpoint is not None and checkpoint.next_batch >= part.bounds(n)[1]
        for part, checkpoint in zip(parts, found, strict=True)
    )


def read_start_time(work: Path) -> datetime:
    """When the harvest was first begun (UTC)."""
    return datetime.fromisoformat(parse_json((work / "config.json").read_text())["started"])
