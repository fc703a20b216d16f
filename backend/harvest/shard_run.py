"""Shard run: the streaming pass over one shard of a harvest.

It runs the model and the dictionaries on each forward batch, folds the activations into the
accumulators, and writes a checkpoint from time to time.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from backend.dictionaries.base import Dictionary, Precision, Triples
from backend.harvest.accumulator import Accumulator, AccumulatorShape
from backend.harvest.checkpoint import Checkpoint, Shard, load_checkpoint, save_checkpoint
from backend.harvest.forward_batches import BatchFeed, ForwardBatch, plan_forward_batches
from backend.harvest.harvest_models import HarvestModels
from backend.harvest.harvest_plan import HarvestPlan
from backend.harvest.segments import select_rows, true_indices
from backend.harvest.stage_timings import StageTimings
from backend.model.finite_weights import all_finite
from backend.model.weight_processing import WeightProcessing
from feature_store.errors import InputError

CHUNK_NONZERO = 1 << 20
"""Non-zero activations of one dictionary folded in at a time, about; 12 bytes each."""
CHUNK_ROWS = 1 << 16
"""Tokens after which a chunk is folded in even with few activations."""
MAX_CHUNKS_HELD = 8
"""Limit on the triples of all dictionaries together, in multiples of CHUNK_NONZERO."""
MAX_NAMED_DOCUMENTS = 5
"""Documents that an error about activations that are not finite names at most."""
CHECKPOINT_S = 30.0
"""Minimum number of seconds between two checkpoints; at least 20 times what the last checkpoint
took."""


@dataclass(frozen=True)
class HarvestProgress:
    """Progress of a harvest's stage, such as a shard's streaming pass: how much is done, of how
    much."""

    stage: str
    done: int
    total: int
    unit: str = "tokens"
    fresh: int = 0
    """How much of `done` this process did itself, from which a speed is computed."""


@dataclass(frozen=True)
class ShardInputs:
    """Inputs of a shard's streaming pass: models, dictionaries, accumulator shapes, processing,
    plan, token batches and work folder."""

    models: HarvestModels
    dictionaries: list[Dictionary]
    shapes: list[AccumulatorShape]
    processing: WeightProcessing
    plan: HarvestPlan
    precision: Precision
    feed: BatchFeed
    work: Path


class ShardRun:
    """Streaming pass of a harvest over one shard of the corpus, model forward passes and encoding
    included, and the accumulators that it fills. Iterate `run` to its end."""

    def __init__(self, inputs: ShardInputs, shard: Shard, stages: StageTimings) -> None:
        """Prepare the pass over `shard`, resuming from its checkpoint where there is one."""
        self.inputs = inputs
        self.shard = shard
        self.stages = stages
        self.folder = shard.folder(inputs.work)
        self.folder.mkdir(parents=True, exist_ok=True)
        resumed = load_checkpoint(self.folder)
        self._resumed = resumed is not None
        self.accumulators = [
            self._accumulator(number, resumed) for number in range(len(inputs.dictionaries))
        ]
        everything = plan_forward_batches(
            np.asarray(inputs.feed.plan.length), inputs.plan.forward_batch
        )
        first, self._end = shard.bounds(len(everything))
        self._batches = everything
        self._next = resumed.next_batch if resumed else first
        self.tokens = resumed.tokens if resumed else 0
        self.tokens_before = self.tokens
        self._saved_at, self._save_cost = time.monotonic(), 0.0

    def _accumulator(self, number: int, resumed: Checkpoint | None) -> Accumulator:
        """Create the accumulator of one dictionary, with the state of the shard's checkpoint where
        it resumes."""
        inputs, name = self.inputs, self.inputs.dictionaries[number].name
        accumulator = Accumulator(
            inputs.shapes[number],
            inputs.plan,
            inputs.feed.windows,
            self.folder / f"{number}.spool",
            inputs.feed.device,
            resumed.spooled[name] if resumed else 0,
        )
        if resumed:
            accumulator.add(resumed.state[name])
        return accumulator

    def close(self) -> None:
        """Close the spool files. The accumulators' state stays in memory."""
        for accumulator in self.accumulators:
            accumulator.spool.close()

    @property
    def complete(self) -> bool:
        """Whether the accumulators hold the activations of every forward batch of the shard."""
        return self._next >= self._end

    def run(self) -> Iterator[HarvestProgress]:
        """Run the streaming pass, yielding progress after each forward pass and writing
        checkpoints, the last one at the end."""
        if self.complete:
            if not self._resumed:
                self.save()  # an empty shard (more shards than batches) is complete, too
            return
        total = self._tokens_total()
        chunk = TripleChunk(self.inputs)
        while self._next < self._end:
            sequences = self._batches[self._next]
            self.tokens += chunk.feed(sequences, self.stages)
            self._next += 1
            if chunk.full or self._next == self._end:
                chunk.fold(self.accumulators, self.stages)
                if self._next == self._end or self._due():
                    self.save()
            yield HarvestProgress(
                "harvest", self.tokens, total, fresh=self.tokens - self.tokens_before
            )

    def _tokens_total(self) -> int:
        """Return how many tokens the shard has to process."""
        plan = self.inputs.feed.plan
        first, end = self.shard.bounds(len(self._batches))
        if self.shard.count == 1:
            return plan.n_tokens
        mine = np.concatenate(self._batches[first:end])
        return int(np.asarray(plan.length)[mine].sum()) - (len(mine) if plan.bos is not None else 0)

    def _due(self) -> bool:
        """Return whether enough time has passed for the next checkpoint."""
        return time.monotonic() - self._saved_at > max(CHECKPOINT_S, 20 * self._save_cost)

    def save(self) -> None:
        """Write a checkpoint of the shard's accumulators and how many forward batches they hold."""
        with self.stages("checkpoint"):
            began = time.monotonic()
            names = [dictionary.name for dictionary in self.inputs.dictionaries]
            pairs = list(zip(names, self.accumulators, strict=True))
            state = {name: accumulator.state() for name, accumulator in pairs}
            spooled = {name: accumulator.spool.sync() for name, accumulator in pairs}
            save_checkpoint(self.folder, Checkpoint(self._next, self.tokens, spooled, state))
            self._saved_at = time.monotonic()
            self._save_cost = self._saved_at - began


class TripleChunk:
    """Chunk of triples (token, feature, value) from whole sequences, gathered until there are
    enough to fold into the accumulators."""

    def __init__(self, inputs: ShardInputs) -> None:
        self._inputs = inputs
        self._clear()

    def _clear(self) -> None:
        """Empty the chunk of triples for the next sequences."""
        self._sequences: list[np.ndarray] = []
        self._triples: list[list[Triples]] = [[] for _ in self._inputs.dictionaries]
        self._finite: list[Tensor] = []
        self._rows = 0
        self._nonzero = [0] * len(self._inputs.dictionaries)

    @property
    def full(self) -> bool:
        """Whether the chunk holds enough tokens or triples to be added to the accumulators."""
        most, total = max(self._nonzero), sum(self._nonzero)
        return (
            self._rows >= CHUNK_ROWS
            or most >= CHUNK_NONZERO
            or total >= CHUNK_NONZERO * MAX_CHUNKS_HELD
        )

    @torch.inference_mode()
    def feed(self, sequences: np.ndarray, stages: StageTimings) -> int:
        """Run one forward batch through the models and the dictionaries and gather its triples.
        Returns the number of counted tokens."""
        inputs = self._inputs
        with stages("feed"):
            batch = inputs.feed.batch(sequences)
        with stages("forward"):
            acts = inputs.models.activations(batch.tokens, inputs.dictionaries, inputs.processing)
            finite = {id(x): all_finite(x) for x in acts}
        flags = []
        for number, (dictionary, x) in enumerate(zip(inputs.dictionaries, acts, strict=True)):
            with stages("encode"):
                triples = encode_batch(dictionary, x, batch, inputs.precision)
            with stages("feed"):
                kept = assign_rows(
                    triples, batch, self._rows, sparse_rows=dictionary.needs_sequence
                )
            self._triples[number].append(kept)
            flags.append(finite[id(x)] & all_finite(kept.value))
            self._nonzero[number] += len(kept.token)
        self._finite.append(torch.stack(flags))
        self._sequences.append(sequences)
        self._rows += batch.n_rows
        return len(batch.counted)

    @torch.inference_mode()
    def fold(self, accumulators: list[Accumulator], stages: StageTimings) -> None:
        """Add the gathered triples to the dictionaries' accumulators, and empty the chunk."""
        if not self._sequences:
            return
        self._refuse_nonfinite()
        shapes = self._inputs.shapes
        with stages("feed"):
            rows = self._inputs.feed.rows(
                np.concatenate(self._sequences),
                [shape.sample_rate for shape in shapes],
            )
        parts = zip(self._inputs.dictionaries, accumulators, self._triples, strict=True)
        for dictionary, accumulator, triples in parts:
            with stages("feed"):
                mine = next(rows)
                joined = Triples(*(torch.cat(column) for column in zip(*triples, strict=True)))
                triples.clear()
                require_finite(joined, dictionary.name)
            accumulator.update(joined, mine, stages)
        self._clear()

    def _refuse_nonfinite(self) -> None:
        """Raise InputError where an activation that a dictionary reads is NaN or infinite; checked
        once per chunk.

        A NaN exceeds no threshold, so it would be stored as features that never fire.
        """
        every = torch.stack(self._finite)
        if bool(every.all()):
            return
        batch, number = (~every).nonzero()[0].tolist()
        plan, sequences = self._inputs.feed.plan, self._sequences[batch]
        documents = dict.fromkeys(plan.document_ids[int(plan.document[i])] for i in sequences)
        shown, more = list(documents)[:MAX_NAMED_DOCUMENTS], len(documents) - MAX_NAMED_DOCUMENTS
        where = " or ".join(shown) + (f" or {more} others" if more > 0 else "")
        hooks = " or ".join(self._inputs.dictionaries[number].read_hooks)
        raise InputError(
            f"Activations at {hooks} are not finite (NaN or infinity) in {where}, so they cannot "
            "be stored. Run the model in float32, or leave that text out."
        )


def require_finite(triples: Triples, name: str) -> None:
    """Raise InputError where a feature activation of the shard is NaN or infinite, since it could
    not be stored."""
    broken = ~torch.isfinite(triples.value)
    if broken.any():
        feature = int(triples.feature[broken][0])
        raise InputError(
            f"{name} cannot be harvested: feature {feature} has an activation that is NaN or "
            "infinite. The model or the dictionary overflows: load both in float32."
        )


def encode_batch(
    dictionary: Dictionary, x: Tensor, batch: ForwardBatch, precision: Precision
) -> Triples:
    """Encode the activations of one forward batch with a dictionary and return the non-zero feature
    activations as triples.

    Their `token` is an index into the batch's counted tokens, or into all of [sequence · position]
    where the dictionary must see whole sequences.
    """
    if dictionary.needs_sequence:
        return dictionary.encode_sparse(x, precision)
    return dictionary.encode_sparse(
        select_rows(x.reshape(-1, x.shape[-1]), batch.counted), precision
    )


def assign_rows(triples: Triples, batch: ForwardBatch, base: int, *, sparse_rows: bool) -> Triples:
    """Replace the token numbers of a batch's triples by row numbers of the shard's chunk, and drop
    tokens that are not counted."""
    token, feature, value = triples
    value = value.float()
    if not sparse_rows:
        return Triples(select_rows(batch.row, token) + base, feature.to(torch.int32), value)
    row = torch.full((batch.tokens.numel(),), -1, dtype=torch.int32, device=token.device)
    row[batch.counted] = batch.row
    placed = select_rows(row, token)
    kept = true_indices(placed >= 0)
    return Triples(
        select_rows(placed, kept) + base,
        select_rows(feature, kept).to(torch.int32),
        select_rows(value, kept),
    )
