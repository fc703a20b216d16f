"""Everything that a harvest gathers for one dictionary."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from backend.dictionaries.base import Triples
from backend.harvest.candidates import RangeContexts, TopContexts
from backend.harvest.chunk import Rows, sort_runs
from backend.harvest.coactivation import PairSample, PairTable
from backend.harvest.config import HarvestPlan
from backend.harvest.counts import PairCounts
from backend.harvest.segments import at, where
from backend.harvest.silent_pool import SilentPool
from backend.harvest.spool import Spool
from backend.harvest.stages import Stages
from backend.harvest.statistics import Statistics
from backend.harvest.tables import Candidates, Table
from backend.harvest.windows import Windows, silent_order


@dataclass(frozen=True)
class Shape:
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
        shape: Shape,
        plan: HarvestPlan,
        windows: Windows,
        spool_path: Path,
        device: torch.device,
        spooled: int = 0,
    ) -> None:
        """`spooled`: words of the spool to keep, when resuming."""
        self.shape = shape
        self.statistics = Statistics(shape.n_slots, shape.highest_octave, device)
        self.top = TopContexts(plan.top // 2, shape.n_slots, windows, device)
        self.ranged = RangeContexts(plan.ranged // 2, self.statistics, windows, plan.seed, device)
        self.coactive = (
            PairTable(shape.d_sae, device)
            if shape.every_pair
            else PairSample(shape.d_sae, shape.coactive_level)
        )
        self.sampled = PairCounts()
        self.silent = SilentPool(silent_order(windows, plan.silent, plan.seed))
        self.spool = Spool(spool_path, spooled)

    def update(self, triples: Triples, rows: Rows, stages: Stages) -> None:
        """Fold in a chunk; `triples.token` are rows of it, in order."""
        signed = self.shape.signed
        with stages("samples"):
            self._samples(triples, rows)
        with stages("co-activation"):
            self.coactive.add(triples.token, triples.feature, rows.level)
        with stages("sort"):
            runs = sort_runs(triples, rows, signed=signed, n_slots=self.shape.n_slots)
        with stages("statistics"):
            self.statistics.update(runs, rows, signed=signed)
        with stages("top"):
            self.top.update(runs, rows, self.spool)
        with stages("range"):
            self.ranged.update(runs, rows, self.spool)

    def _samples(self, triples: Triples, rows: Rows) -> None:
        drawn = where(at(rows.sampled, triples.token))
        token, feature, value = (at(column, drawn) for column in triples)
        self.sampled.add(feature, at(rows.token_id, token), value.abs())
        quiet = where(at(rows.silent, triples.token))
        row, feature, value = (at(column, quiet) for column in triples)
        columns = (at(rows.window, row), at(rows.position, row), feature, value)
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
            rows = Candidates(**part(name))
            table.add(rows._replace(offset=rows.offset + spool_base))
            table.merge()
        self.sampled.merge(**part("sampled"))
        self.coactive.merge(**part("coactive"))
        silent = part("silent")
        self.silent.merge(silent, silent.pop("counts"))
        self.top.raise_bar()
        self.ranged.raise_bar()

    def _tables(self) -> dict[str, Table]:
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
