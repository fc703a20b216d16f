"""Shards put together, dictionary by dictionary."""

import numpy as np

from backend.harvest.accumulator import Accumulator
from backend.harvest.checkpoint import Shard, load
from backend.harvest.shard import Job, ShardRun
from backend.harvest.spool import Records, open_words


def merged(job: Job, runs: list[ShardRun], number: int, count: int) -> tuple[Accumulator, Records]:
    """One dictionary's accumulator over all shards, and where its records lie."""
    if count == 1:
        accumulator = runs[0].accumulators[number]
        spool = accumulator.spool  # complete, and synced by the shard's last checkpoint
        return accumulator, Records([open_words(spool.path, spool.length)])
    name = job.dictionaries[number].name
    whole = Accumulator(
        job.shapes[number],
        job.plan,
        job.feed.windows,
        job.work / f"merged-{number}.spool",
        job.feed.device,
    )
    whole.spool.close()  # its records stay in the shards' spools
    words: list[np.ndarray] = []
    for index in range(count):
        folder = Shard(index, count).folder(job.work)
        checkpoint = load(folder)
        assert checkpoint is not None, "all shards are complete"
        whole.add(checkpoint.state[name], spool_base=sum(len(part) for part in words))
        words.append(open_words(folder / f"{number}.spool", checkpoint.spooled[name]))
    return whole, Records(words)
