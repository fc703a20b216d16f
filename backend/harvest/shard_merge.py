"""Shard merge: one dictionary's accumulator over all shards of a harvest, summed from their
checkpoints."""

import numpy as np

from backend.harvest.accumulator import Accumulator
from backend.harvest.activation_spool import SpoolRecords, map_spool_words
from backend.harvest.checkpoint import Shard, load_checkpoint
from backend.harvest.shard_run import ShardInputs, ShardRun


def merge_shards(
    inputs: ShardInputs, runs: list[ShardRun], number: int, count: int
) -> tuple[Accumulator, SpoolRecords]:
    """Merge all shards of a harvest for the dictionary with index `number`. Returns its accumulator
    over the whole corpus and the spool records of its contexts."""
    if count == 1:
        accumulator = runs[0].accumulators[number]
        spool = accumulator.spool  # complete, and synced by the shard's last checkpoint
        return accumulator, SpoolRecords([map_spool_words(spool.path, spool.length)])
    name = inputs.dictionaries[number].name
    merged = Accumulator(
        inputs.shapes[number],
        inputs.plan,
        inputs.feed.windows,
        inputs.work / f"merged-{number}.spool",
        inputs.feed.device,
    )
    merged.spool.close()  # its records stay in the shards' spools
    words: list[np.ndarray] = []
    for index in range(count):
        folder = Shard(index, count).folder(inputs.work)
        checkpoint = load_checkpoint(folder)
        assert checkpoint is not None, "all shards are complete"
        merged.add(checkpoint.state[name], spool_base=sum(len(part) for part in words))
        words.append(map_spool_words(folder / f"{number}.spool", checkpoint.spooled[name]))
    return merged, SpoolRecords(words)
