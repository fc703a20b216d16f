"""Everything that a harvest gathers for one dictionary."""

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
    """What an accumulator must know before the first token."""

    d_sae: int
    signed: bool
    highest_octave: int
    """Biased exponent of the histogram's highest octave."""
    every_pair: bool
    """Whether co-activation is counted for all pairs on all tokens."""
    coactive_level: int
    """Else the level of tokens at which its sample begins."""
    sample_rate: float

    @property
    def n_slots(self) -> int:
        """One slot a feature; two, positive then negative, where activations have signs."""
        return self.d_sae * 2 if self.signed else self.d_sae


class Accumulator:
    """Statistics, contexts, co-activation, token sample and silent windows of one dictionary."""

    def __init__(
        self,
        shape: AccumulatorShape,
        plan: HarvestPlan,
        windows: WindowGrid,
        spool_path: Path,
        device: torch.device,
        spooled: int = 0,
    ) -> None:
        """`spooled`: words of the spool to keep, when resuming."""
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
        """Fold in a chunk; `triples.token` are rows of it, in order."""
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
        drawn = true_indices(select_rows(rows.sampled, triples.token))
        token, feature, value = (select_rows(column, drawn) for column in triples)
        self.sampled.add(feature, select_rows(rows.token_id, token), value.abs())
        quiet = true_indices(select_rows(rows.silent, triples.token))
        row, feature, value = (select_rows(column, quiet) for column in triples)
        columns = (select_rows(rows.window, row), select_rows(rows.position, row), feature, value)
        names = ("window", "position", "feature", "value")
        self.silent.add({name: to_numpy(c) for name, c in zip(names, columns, strict=True)})

    def state(self) -> dict[str, np.ndarray]:
        """All of it as named arrays, buffers merged, for a checkpoint."""
        for kept in (self.top, self.ranged):
            kept.table.merge()
            kept.raise_bar()
        state = {f"statistics.{k}": to_numpy(v) for k, v in self.statistics.state().items()}
        for name, table in self._tables().items():
            state |= {f"{name}.{k}": v for k, v in table.rows._asdict().items()}
        self.sampled.flush()
        state |= {f"sampled.{k}": getattr(self.sampled, k) for k in ("keys", "count", "weight")}
        state |= {f"coactive.{k}": v for k, v in self.coactive.state().items()}
        return state | {f"silent.{k}": v for k, v in self.silent.state().items()}

    def add(self, state: dict[str, np.ndarray], spool_base: int = 0) -> None:
        """Merge a checkpoint's state into this one; its records begin at `spool_base`."""
        part = lambda name: {  # noqa: E731
            k.removeprefix(name + "."): v for k, v in state.items() if k.startswith(name + ".")
        }
        self.statistics.add({k: torch.from_numpy(v) for k, v in part("statistics").items()})
        for name, table in self._tables().items():
            rows = ContextCandidates(**part(name))
            table.add(rows._replace(offset=rows.offset + spool_base))
            table.merge()
        self.sampled.merge(**part("sampled"))
        self.coactive.merge(**part("coactive"))
        silent = part("silent")
        self.silent.merge(silent, silent.pop("counts"))
        self.top.raise_bar()
        self.ranged.raise_bar()

    def _tables(self) -> dict[str, ContextReservoir]:
        return {"top": self.top.table, "range": self.ranged.table}

    @property
    def nbytes(self) -> int:
        """Memory that the accumulator holds, in bytes."""
        tensors = sum(v.numel() * v.element_size() for v in self.statistics.state().values())
        tables = sum(table.nbytes for table in self._tables().values())
        pairs = self.coactive.nbytes + self.sampled.nbytes
        return tensors + tables + pairs + self.silent.nbytes


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A tensor's values on the host."""
    return tensor.cpu().numpy()
