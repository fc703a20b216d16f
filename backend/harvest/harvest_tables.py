"""Tables of a harvest file: turns the accumulators and measurements of a finished harvest into the
rows of `harvest`, `dictionary`, `feature`, `context`, `sequence`, `silent_window` and `token`, and
publishes the file."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from backend.corpus import SequencePlan
from backend.dictionaries.base import Dictionary, Precision
from backend.harvest.accumulator import Accumulator
from backend.harvest.activation_spool import SpoolRecords
from backend.harvest.coactivation import JointCounts
from backend.harvest.context_table import build_context_table, select_contexts
from backend.harvest.dictionary_measurements import DictionaryMeasurement
from backend.harvest.feature_statistics import (
    build_sign_columns,
    coactive_columns,
    nullable_array,
    slot_sums,
    top_token_columns,
)
from backend.harvest.forward_batches import COACTIVE_SEED, SAMPLE_SEED
from backend.harvest.harvest_plan import HarvestPlan
from backend.harvest.sampling_hashes import select_by_hash
from backend.harvest.weight_facts import WeightArrays
from backend.harvest.window_grid import WindowGrid
from backend.model.language_model import LanguageModel
from backend.model.vocabulary import vocabulary_bytes
from feature_store.catalog import utc_now
from feature_store.harvest_writer import SCHEMA_VERSION, HarvestWriter
from feature_store.strict_json import dump_json
from feature_store.vocabulary import Vocabulary

ROWS_PER_WRITE = 1 << 17
"""Rows of the `context` table written at a time; of `sequence` an eighth of that."""
VERSIONED_LIBRARIES = ("saefari", "torch", "transformers", "transformer-lens", "sae-lens", "duckdb")
"""Libraries whose versions the `harvest` table records."""
SPLITS = ("explain", "score")


@dataclass(frozen=True)
class DictionaryResults:
    """Everything that a harvest has found for one dictionary and writes to the tables of the
    harvest file."""

    dictionary: Dictionary
    probe: DictionaryMeasurement
    accumulator: Accumulator
    records: SpoolRecords
    weights: WeightArrays
    """Weight facts of the dictionary, computed by `weight_facts.compute_weight_facts`."""
    bos_act: np.ndarray


@dataclass(frozen=True)
class HarvestDetails:
    """Details of the harvest that all its dictionaries share: id, model, plan, sequences, windows
    and notes."""

    id: str
    lm: LanguageModel
    plan: HarvestPlan
    sequences: SequencePlan
    windows: WindowGrid
    silent: np.ndarray
    precision: Precision
    started: datetime
    revision: str
    notes: Sequence[str] = ()
    """Sentences for the user about how the dictionaries' files were read."""

    @property
    def n_windows(self) -> int:
        """Number of windows in the window grid."""
        return len(self.windows)


def publish_harvest(
    details: HarvestDetails, all_results: list[DictionaryResults], work: Path, target: Path
) -> Iterator[int]:
    """Write all tables of the harvest file, then give the file its final name. Yields the number of
    dictionaries written so far."""
    writer = HarvestWriter(work)
    try:
        write_shared_tables(writer, details)
        first = 0
        for number, results in enumerate(all_results, 1):
            first = write_dictionary_rows(writer, details, results, first)
            yield number
        writer.publish(target)
    finally:
        writer.close()


def write_dictionary_rows(
    writer: HarvestWriter, details: HarvestDetails, results: DictionaryResults, first: int
) -> int:
    """Write one dictionary's rows of all tables, its contexts numbered from `first`. Returns the
    number at which the next dictionary's contexts begin."""
    name, joint = results.dictionary.name, results.accumulator.coactive.joint()
    chosen = select_contexts(results.accumulator)
    n_contexts = np.bincount(chosen.feature, minlength=results.dictionary.d_sae)
    begin = first + np.cumsum(n_contexts) - n_contexts
    columns = build_feature_columns(details, results, joint) | {
        "first_context": pa.array(begin),
        "n_contexts": pa.array(n_contexts.astype(np.int32)),
    }
    writer.append_rows("feature", pa.table(columns))
    for low in range(0, len(chosen.feature), ROWS_PER_WRITE):
        part = slice(low, low + ROWS_PER_WRITE)
        writer.append_rows(
            "context", build_context_table(name, chosen, part, results.records, details.windows)
        )
    writer.append_rows(
        "dictionary", pa.Table.from_pylist([dictionary_row(details, results, joint)])
    )
    writer.append_rows("silent_window", silent_window_table(details, results))
    return first + len(chosen.feature)


def build_feature_columns(
    details: HarvestDetails, results: DictionaryResults, joint: JointCounts
) -> dict[str, Any]:
    """Build all columns of the `feature` table except those that locate the feature's contexts."""
    d_sae, acc = results.dictionary.d_sae, results.accumulator
    tokens, windows = details.sequences.n_tokens, details.n_windows
    first_bin = acc.statistics.first_bin
    step = slice(0, None, 2) if acc.shape.signed else slice(None)
    positive = slot_sums(acc, step)
    columns: dict[str, Any] = {
        "dictionary": pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(d_sae, np.int8)), [results.dictionary.name]
        ),
        "feature": pa.array(np.arange(d_sae, dtype=np.int32)),
        "bos_act": nullable_array(results.bos_act),
    }
    signed_sum = positive.powers[0]
    combined = positive
    if acc.shape.signed:
        negative = slot_sums(acc, slice(1, None, 2))
        columns["positive"] = struct_array(build_sign_columns(positive, tokens, windows, first_bin))
        columns["negative"] = struct_array(build_sign_columns(negative, tokens, windows, first_bin))
        signed_sum = positive.powers[0] - negative.powers[0]
        # Windows where both signs fire are in both counts; subtract them once.
        shared = acc.statistics.n_windows_both.cpu().numpy()[step]
        combined = positive + negative
        combined = type(combined)(**vars(combined) | {"n_windows": combined.n_windows - shared})
    columns |= build_sign_columns(combined, tokens, windows, first_bin)
    return columns | {
        **window_histogram_columns(combined, windows, tokens, first_bin),
        "mean_all": pa.array(signed_sum / tokens),
        "mean_position": pa.array(
            combined.position_sum / np.maximum(combined.n_active, 1), mask=combined.n_active == 0
        ),
        **top_token_columns(acc.sampled, d_sae),
        **coactive_columns(joint, count_sampled_tokens(details, results, joint)[0]),
        **weight_columns(results.weights),
    }


def window_histogram_columns(
    sums: Any, windows: int, tokens: int, first_bin: int
) -> dict[str, pa.Array]:
    """Build the columns of the histogram of window maxima, trimmed like the histogram of
    activations."""
    other = type(sums)(**vars(sums) | {"histogram": sums.window_histogram})
    columns = build_sign_columns(other, tokens, windows, first_bin)
    return {f"window_{name}": columns[name] for name in ("histogram_start", "histogram")}


def struct_array(columns: dict[str, pa.Array]) -> pa.Array:
    """Combine columns of the `feature` table into one Arrow struct column, such as `positive` or
    `negative`."""
    return pa.StructArray.from_arrays(list(columns.values()), names=list(columns))


def weight_columns(weights: WeightArrays) -> dict[str, pa.Array]:
    """Return the weight facts (logit lens and nearest neighbours) as columns of the `feature`
    table; missing values are null."""
    columns: dict[str, pa.Array] = {}
    for name, values in weights.items():
        if values.ndim == 1:
            columns[name] = nullable_array(values)
            continue
        offsets = np.arange(0, values.size + 1, values.shape[1] or 1, dtype=np.int32)
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        columns[name] = pa.ListArray.from_arrays(pa.array(offsets), flat)
    return columns


def count_sampled_tokens(
    details: HarvestDetails, results: DictionaryResults, joint: JointCounts
) -> tuple[int, int]:
    """Return how many counted tokens the co-activation sample and the token sample have."""
    import torch

    plan = details.sequences
    seed, shape = details.plan.seed, results.accumulator.shape
    special = np.array(sorted(plan.special_ids), dtype=np.int64)
    rates = ((COACTIVE_SEED, joint.rate), (SAMPLE_SEED, shape.sample_rate))
    counts = [0, 0]
    for low in range(0, len(plan.every_token), 1 << 20):
        tokens = np.asarray(plan.every_token[low : low + (1 << 20)])
        counted = torch.from_numpy(~np.isin(tokens, special))
        ids = torch.arange(low, low + len(tokens), dtype=torch.int32)
        for which, (salt, rate) in enumerate(rates):
            counts[which] += int((select_by_hash(ids, seed ^ salt, rate) & counted).sum())
    return counts[0], counts[1]


def dictionary_row(
    details: HarvestDetails, results: DictionaryResults, joint: JointCounts
) -> dict[str, Any]:
    """Return a dictionary's row of the `dictionary` table, with its self-check and sampling
    rates."""
    dictionary, check, acc = results.dictionary, dict(results.probe.check), results.accumulator
    n_active = acc.statistics.n_active.cpu().numpy()
    per_feature = n_active.reshape(dictionary.d_sae, -1).sum(axis=1)
    coactive, sampled = count_sampled_tokens(details, results, joint)
    check_columns = (
        "explained_variance",
        "l0",
        "ce_clean",
        "ce_spliced",
        "ce_zero",
        "ce_mean",
        "delta_ce",
        "recovery_zero",
        "recovery_mean",
        "published_l0",
        "published_explained_variance",
    )
    return {
        "dictionary": dictionary.name,
        "reads": [asdict(site) for site in dictionary.reads],
        "writes": [asdict(site) for site in dictionary.writes],
        "architecture": dictionary.architecture,
        "signed": dictionary.signed,
        "d_in": dictionary.d_in,
        "d_out": dictionary.d_out,
        "d_sae": dictionary.d_sae,
        "source": dictionary.source,
        "weights_hash": dictionary.weights_hash,
        "model_kwargs": dump_json(asdict(dictionary.processing), sort_keys=True, ascii_only=True),
        **{name: check[name] for name in check_columns},
        "check_tokens": check["n_tokens"],
        "check_documents": check["n_documents"],
        "check_words": results.probe.words,
        "n_dead": int((per_feature == 0).sum()),
        "mean_active": float(per_feature.sum() / details.sequences.n_tokens),
        "coactive_tokens": coactive,
        "coactive_rate": joint.rate,
        "token_sample_tokens": sampled,
        "token_sample_rate": acc.shape.sample_rate,
    }


def silent_window_table(details: HarvestDetails, results: DictionaryResults) -> pa.Table:
    """Build a dictionary's rows of the `silent_window` table: the windows of the silent pool that
    it keeps, with its activations in them."""
    columns = results.accumulator.silent.columns()
    order = np.lexsort((columns["feature"], columns["position"], columns["window"]))
    window = columns["window"][order]
    pool = results.accumulator.silent.windows
    lengths = np.searchsorted(window, pool, "right") - np.searchsorted(window, pool, "left")
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))

    def lists(name: str, kind: pa.DataType) -> pa.Array:
        values = columns[name][order]
        return pa.ListArray.from_arrays(offsets, pa.array(values).cast(kind))

    windows = details.windows
    return pa.table(
        {
            "dictionary": pa.array([results.dictionary.name] * len(pool), type=pa.string()),
            "window": pool.astype(np.int32),
            "sequence": windows.sequence[pool],
            "start": windows.start[pool],
            "length": windows.length[pool],
            "split": split_name_array(windows.split[pool]),
            "positions": lists("position", pa.uint16()),
            "features": lists("feature", pa.int32()),
            "activations": lists("value", pa.float32()),
        }
    )


def split_name_array(splits: np.ndarray) -> pa.Array:
    """Return split indices 0 and 1 as a column of the harvest file's tables with the names
    `explain` and `score`."""
    return pa.DictionaryArray.from_arrays(pa.array(np.asarray(splits).astype(np.int8)), SPLITS)


def write_shared_tables(writer: HarvestWriter, details: HarvestDetails) -> None:
    """Write the tables that no dictionary owns: `harvest`, `document`, `sequence` and `token`."""
    writer.append_rows("harvest", pa.Table.from_pylist([harvest_row(details)]))
    plan = details.sequences
    names = pa.table(
        {
            "document": np.arange(len(plan.document_ids), dtype=np.int32),
            "name": pa.array(plan.document_ids, type=pa.string()),
        }
    )
    writer.append_rows("document", names)
    for low in range(0, plan.n_sequences, ROWS_PER_WRITE // 8):
        writer.append_rows(
            "sequence", sequence_table(plan, low, min(low + ROWS_PER_WRITE // 8, plan.n_sequences))
        )
    pieces = vocabulary_bytes(details.lm.tokenizer, details.lm.n_nameable)
    vocabulary = Vocabulary(pieces)
    texts = [vocabulary.text(i) for i in range(len(pieces))]
    ids = np.arange(len(pieces), dtype=np.int32)
    writer.append_rows("token", pa.table({"token_id": ids, "text": texts, "bytes": pieces}))


def sequence_table(plan: SequencePlan, low: int, high: int) -> pa.Table:
    """Build rows low … high − 1 of the `sequence` table."""
    length = np.asarray(plan.length[low:high])
    begin = int(plan.offset[low])
    flat = np.asarray(plan.every_token[begin : begin + int(length.sum())]).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
    columns: dict[str, Any] = {
        "sequence": np.arange(low, high, dtype=np.int32),
        "document": np.asarray(plan.document[low:high]),
        "start": np.asarray(plan.start[low:high]),
        "split": split_name_array(plan.split[low:high]),
        "token_ids": pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat)),
    }
    if plan.packed:
        segment_sequence = np.asarray(plan.segment_sequence)
        a, b = np.searchsorted(segment_sequence, [low, high])
        counts = np.bincount(segment_sequence[a:b] - low, minlength=high - low)
        segment_offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        for name, source in (("documents", "document"), ("borders", "position")):
            values = np.asarray(getattr(plan, f"segment_{source}")[a:b])
            columns[name] = pa.ListArray.from_arrays(segment_offsets, pa.array(values))
    return pa.table(columns)


def harvest_row(details: HarvestDetails) -> dict[str, Any]:
    """Return the one row of the `harvest` table."""
    lm, plan, sequences = details.lm, details.plan, details.sequences
    return {
        "id": details.id,
        "schema": SCHEMA_VERSION,
        "model": lm.name,
        "model_source": lm.source,
        "model_hash": lm.model_hash,
        "corpus": sequences.corpus,
        "tokens": sequences.n_tokens,
        "documents": sequences.n_documents,
        "sequences": sequences.n_sequences,
        "context_size": sequences.context_size,
        "window_size": plan.window,
        "windows": details.n_windows,
        "packed": sequences.packed,
        "seed": plan.seed,
        "forward_batch": plan.forward_batch,
        "dtype": str(lm.placement.dtype).removeprefix("torch."),
        "device": str(lm.placement.device),
        "encoding": details.precision,
        "versions": dump_json(
            {name: version(name) for name in VERSIONED_LIBRARIES}, ascii_only=True
        ),
        "revision": details.revision,
        "warnings": [*details.notes, *sequences.warnings],
        "started": details.started,
        "finished": utc_now(),
    }
