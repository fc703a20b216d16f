"""The `context` table of a harvest file: selects each feature's stored contexts from the context
reservoirs, weights the range sample, and builds the Arrow rows."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from backend.harvest.accumulator import Accumulator
from backend.harvest.activation_spool import SpoolRecords
from backend.harvest.activation_sums import N_OCTAVES
from backend.harvest.context_reservoir import ContextCandidates, rank_within_groups
from backend.harvest.feature_statistics import list_array
from backend.harvest.window_grid import WindowGrid
from feature_store.activation_histogram import BINS_PER_OCTAVE

STRATA = ("top", "bottom", "range")
SPLITS = ("explain", "score")


@dataclass(frozen=True)
class SelectedContexts:
    """Contexts of one dictionary selected for the harvest file's `context` table, in stored order:
    by feature, stratum (top, bottom or range) and rank."""

    feature: np.ndarray
    stratum: np.ndarray
    rank: np.ndarray
    weight: np.ndarray
    """Sampling weight of each range context; NaN for top and bottom contexts."""
    rows: ContextCandidates


def select_contexts(accumulator: Accumulator) -> SelectedContexts:
    """Select the contexts of one dictionary for the `context` table: all top and bottom contexts
    that the samplers kept, and range contexts thinned to the planned number, each with its sampling
    weight."""
    signed = accumulator.shape.signed
    top = accumulator.top.table.rows
    ranged, weight = thin_range_contexts(accumulator)
    rows = ContextCandidates.join([top, ranged])
    slot = rows.group >> 1
    feature = slot >> 1 if signed else slot
    is_top = np.arange(len(slot)) < len(top.group)
    stratum = np.where(is_top, slot & 1 if signed else 0, 2).astype(np.int8)
    weights = np.concatenate([np.full(len(top.group), np.nan), weight])
    order = np.lexsort((rows.window, -rows.value, stratum, feature))
    stratum_key = feature[order].astype(np.int64) * len(STRATA) + stratum[order]
    return SelectedContexts(
        feature[order].astype(np.int32),
        stratum[order],
        rank_within_groups(stratum_key).astype(np.int16),
        weights[order].astype(np.float32),
        rows.take(order),
    )


def thin_range_contexts(accumulator: Accumulator) -> tuple[ContextCandidates, np.ndarray]:
    """Thin each group's (feature, sign and split) range contexts to the planned number, and return
    them with the sampling weight of each: how many firing windows it represents.

    Within an octave the rows in order of priority are a simple random sample, so any first n of
    them are one too: n of the octave's N firing windows, each of weight N ÷ n.
    """
    ranged = accumulator.ranged
    rows = ranged.table.rows
    octave = ranged.octave_of(rows.value)
    cell = rows.group.astype(np.int64) * N_OCTAVES + octave
    order = np.lexsort((rows.window, -ranged.priority_of(rows), cell))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = rank_within_groups(cell[order])
    groups, index = np.unique(rows.group, return_inverse=True)
    available = np.zeros((len(groups), N_OCTAVES), dtype=np.int64)
    np.add.at(available, (index, octave), 1)
    population = count_windows_by_octave(accumulator)[groups]
    take = allocate_samples(available, population, ranged.n)
    kept = rank < take[index, octave]
    weight = population[index, octave][kept] / take[index, octave][kept]
    return rows.take(kept), weight


def count_windows_by_octave(accumulator: Accumulator) -> np.ndarray:
    """Return the number of firing windows of each group (slot and split) by octave of their
    maximum: [group, octave]."""
    sums = accumulator.statistics
    fine = sums.window_histogram.cpu().numpy().reshape(sums.n_slots, N_OCTAVES, BINS_PER_OCTAVE)
    score = sums.score_octaves.cpu().numpy().reshape(sums.n_slots, N_OCTAVES)
    explain = fine.sum(axis=2) - score
    return np.stack([explain, score], axis=1).reshape(-1, N_OCTAVES)


def allocate_samples(available: np.ndarray, population: np.ndarray, n: int) -> np.ndarray:
    """Return how many range contexts of each octave a group keeps: n in all, or all that the group
    has.

    Every octave that fired gets one, strongest first; then the octave whose samples represent most
    windows gets one more, until n are allocated.
    """
    take = np.zeros_like(available)
    fired = available > 0
    strongest_first = np.cumsum(fired[:, ::-1], axis=1)[:, ::-1]
    take[fired & (strongest_first <= n)] = 1
    groups = np.arange(len(available))
    for _ in range(n):
        need = np.where(take < available, population / (take + 1), -1.0)
        best = need.argmax(axis=1)
        more = (take.sum(axis=1) < n) & (need[groups, best] > 0)
        take[groups[more], best[more]] += 1
    return take


def build_context_table(
    name: str, chosen: SelectedContexts, part: slice, records: SpoolRecords, windows: WindowGrid
) -> pa.Table:
    """Build the Arrow rows of the `context` table for part of a dictionary's selected contexts,
    reading their activations from the spool."""
    rows = chosen.rows.take(part)
    count, peak, start, positions, values = records.read(rows.offset)
    stratum = chosen.stratum[part]
    owner = np.repeat(np.arange(len(count)), count)
    is_peak = positions == peak[owner]
    peak_value = np.empty(len(count), dtype=np.float32)
    peak_value[owner[is_peak]] = values[is_peak]
    window = rows.window
    start = np.where(stratum == 2, windows.start[window], start).astype(np.int32)
    splits = pa.DictionaryArray.from_arrays(pa.array((rows.group & 1).astype(np.int8)), SPLITS)
    strata = pa.DictionaryArray.from_arrays(pa.array(stratum), STRATA)
    weight = chosen.weight[part]
    centred = np.minimum(windows.width, windows.stretch[window])
    return pa.table(
        {
            "dictionary": pa.DictionaryArray.from_arrays(
                pa.array(np.zeros(len(window), np.int8)), [name]
            ),
            "feature": chosen.feature[part],
            "stratum": strata,
            "rank": chosen.rank[part],
            "weight": pa.array(weight, mask=np.isnan(weight)),
            "split": splits,
            "document": windows.document[window],
            "sequence": windows.sequence[window],
            "start": start,
            "length": np.where(stratum == 2, windows.length[window], centred).astype(np.int16),
            "peak": peak,
            "value": peak_value,
            "positions": list_array(count, positions.astype(np.uint16), pa.uint16()),
            "activations": list_array(count, values, pa.float32()),
        }
    )
