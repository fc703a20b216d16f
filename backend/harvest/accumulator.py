"""Accumulator: everything that a harvest gathers for one dictionary while it streams: activation
sums, contexts, co-activation counts, the token sample and the silent windows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from backend.dictionaries.base import Triples
from backend.harvest.activation_runs import TokenRows, sort_into_runs
from backend.harvest.activation_spool import ActivationSpool
from backend.harvest.activation_sums import ActivationSums
from backend.harvest.coactivation import PairSample, PairTable
from backend.harvest.context_reservoir import ContextCandidates, ContextReservoir
from backend.harvest.context_samplers import RangeContextSampler, TopContextSampler
from backend.harvest.harvest_plan import HarvestPlan
from backend.harvest.pair_counts import PairCounts
from backend.harvest.segments import select_rows, true_indices
from backend.harvest.silent_pool import SilentPool
from backend.harvest.stage_timings import StageTimings
from backend.harvest.window_grid import WindowGrid, order_silent_windows


@dataclass(frozen=True)
class AccumulatorShape:
    """Sizes that a dictionary's accumulator must know before the first token: number of features,
    whether activations have signs, the histogram's range and the sampling rates."""

    d_sae: int
    signed: bool
    highest_octave: int
    """Biased float32 exponent of the highest octave of the activation histogram."""
    every_pair: bool
    """Whether co-activation is counted for all pairs of features on all tokens."""
    coactive_level: int
    """Where not all pairs are counted: the level of tokens at which the co-activation sample
    begins."""
    sample_rate: float
    """Share of tokens in the token sample, between 0 and 1."""

    @property
    def n_slots(self) -> int:
        """Number of slots of the accumulator: one per feature, or two (positive, then negative)
        where activations have signs."""
        return self.d_sae * 2 if self.signed else self.d_sae


class Accumulator:
    """Accumulates, while a harvest streams its corpus, one dictionary's statistics, contexts,
    co-activation counts, token sample and silent windows."""

    def __init__(
        self,
        shape: AccumulatorShape,
        plan: HarvestPlan,
        windows: WindowGrid,
        spool_path: Path,
        device: torch.device,
        spooled: int = 0,
    ) -> None:
        """Create an empty accumulator whose contexts go to the spool file at `spool_path`. When a
        harvest resumes, `spooled` is the number of words of that spool to keep."""
        self.shape = shape
        self.statistics = ActivationSums(shape.n_slots, shape.highest_octave, device)
        self.top = TopContextSampler(plan.top // 2, shape.n_slots, windows, device)
        self.ranged = RangeContextSampler(
            plan.ranged // 2, self.statistics, windows, plan.seed, device
        )
        self.coactive = (
            PairTable(shape.d_sae, device)
            if shape.every_pair
            else PairSample(shape.d_sae, shape.coactive_level)
        )
        self.sampled = PairCounts()
        self.silent = SilentPool(order_silent_windows(windows, plan.silent, plan.seed))
        self.spool = ActivationSpool(spool_path, spooled)

    def update(self, triples: Triples, rows: TokenRows, stages: StageTimings) -> None:
        """Add one chunk's sparse activations, as triples (token, feature, value), to all statistics
        and samples of the accumulator. `triples.token` holds row numbers of the chunk, in ascending
        order."""
        signed = self.shape.signed
        with stages("samples"):
            self._samples(triples, rows)
        with stages("co-activation"):
            self.coactive.add(triples.token, triples.feature, rows.level)
        with stages("sort"):
            runs = sort_into_runs(triples, rows, signed=signed, n_slots=self.shape.n_slots)
        with stages("statistics"):
            self.statistics.update(runs, rows, signed=signed)
        with stages("top"):
            self.top.update(runs, rows, self.spool)
        with stages("range"):
            self.ranged.update(runs, rows, self.spool)

    def _samples(self, triples: Triples, rows: TokenRows) -> None:
        """Add a chunk's activations to the token sample and to the pool of silent windows."""
        sampled = true_indices(select_rows(rows.in_token_sample, triples.token))
        token, feature, value = (select_rows(column, sampled) for column in triples)
        self.sampled.add(feature, select_rows(rows.token_id, token), value.abs())
        silent = true_indices(select_rows(rows.in_silent_pool, triples.token))
        row, feature, value = (select_rows(column, silent) for column in triples)
        columns = (select_rows(rows.window, row), select_rows(rows.position, row), feature, value)
        names = ("window", "position", "feature", "value")
        self.silent.add({name: to_numpy(c) for name, c in zip(names, columns, strict=True)})

    def state(self) -> dict[str, np.ndarray]:
        """Return the accumulator's whole state as named arrays for a checkpoint, after merging its
        buffers."""
        for sampler in (self.top, self.ranged):
            sampler.table.merge()
            sampler.raise_bar()
        state = {f"statistics.{k}": to_numpy(v) for k, v in self.statistics.state().items()}
        for name, table in self._tables().items():
            state |= {f"{name}.{k}": v for k, v in table.rows._asdict().items()}
        self.sampled.flush()
        state |= {f"sampled.{k}": getattr(self.sampled, k) for k in ("keys", "count", "weight")}
        state |= {f"coactive.{k}": v for k, v in self.coactive.state().items()}
        return state | {f"silent.{k}": v for k, v in self.silent.state().items()}

    def add(self, state: dict[str, np.ndarray], spool_base: int = 0) -> None:
        """Merge an accumulator's state from a checkpoint into this one. The spool records of that
        state begin at int32 word `spool_base` of the spools joined end to end."""
        arrays_of = lambda name: {  # noqa: E731
            k.removeprefix(name + "."): v for k, v in state.items() if k.startswith(name + ".")
        }
        self.statistics.add({k: torch.from_numpy(v) for k, v in arrays_of("statistics").items()})
        for name, table in self._tables().items():
            rows = ContextCandidates(**arrays_of(name))
            table.add(rows._replace(offset=rows.offset + spool_base))
            table.merge()
        self.sampled.merge(**arrays_of("sampled"))
        self.coactive.merge(**arrays_of("coactive"))
        silent = arrays_of("silent")
        self.silent.merge(silent, silent.pop("counts"))
        self.top.raise_bar()
        self.ranged.raise_bar()

    def _tables(self) -> dict[str, ContextReservoir]:
        """Return the two context reservoirs, `top` and `range`, by name."""
        return {"top": self.top.table, "range": self.ranged.table}

    @property
    def nbytes(self) -> int:
        """Memory that the accumulator's sums, contexts, pair counts and silent windows hold, in
        bytes."""
        tensors = sum(v.numel() * v.element_size() for v in self.statistics.state().values())
        tables = sum(table.nbytes for table in self._tables().values())
        pairs = self.coactive.nbytes + self.sampled.nbytes
        return tensors + tables + pairs + self.silent.nbytes


def to_numpy(tensor: Tensor) -> np.ndarray:
    """Copy one of the accumulator's tensors to a numpy array on the host."""
    return tensor.cpu().numpy()
