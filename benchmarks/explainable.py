"""A store whose features can be explained and scored: windows drawn, no model behind them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import synthetic
from benchmarks.synthetic import DICTIONARY, VOCABULARY, listed
from feature_store.activation_histogram import bin_number
from feature_store.harvest_writer import HarvestWriter
from feature_store.store import Store

DOCUMENTS, LENGTH, WINDOW = 4000, 65, 32
EXPLAIN, SCORE = 10, 24
"""Windows of a feature in each split."""
SILENT = 600
BATCH = 20_000


def build(path: Path, features: int) -> Store:
    """Every feature fires on one word of its own, in windows of both splits."""
    store = Store.create(path)
    target = path / "harvests" / f"{synthetic.HARVEST}.duckdb"
    if target.exists():
        return store
    work = path / "work" / synthetic.HARVEST
    work.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    writer = HarvestWriter(work, memory_limit="1GB")
    harvest = {**synthetic.harvest(), "documents": DOCUMENTS, "sequences": DOCUMENTS}
    writer.append_rows("harvest", pa.Table.from_pylist([harvest]))
    dictionary = {**synthetic.dictionary(features), "n_dead": 0}
    writer.append_rows("dictionary", pa.Table.from_pylist([dictionary]))
    writer.append_rows("token", synthetic.tokens())
    writer.append_rows("sequence", sequences(rng))
    names = [f"text {i}" for i in range(DOCUMENTS)]
    writer.append_rows(
        "document", pa.table({"document": pa.array(range(DOCUMENTS)), "name": names})
    )
    for rows in synthetic.facts(features):
        writer.append_rows("feature", alive(rows))
    for first in range(0, features, BATCH):
        writer.append_rows("context", contexts(rng, first, min(BATCH, features - first)))
    writer.append_rows("silent_window", pa.Table.from_pylist(list(silent(rng, features))))
    writer.publish(target)
    return store


def alive(rows: pa.Table) -> pa.Table:
    """The facts with contexts and a histogram of windows' maxima."""
    n = len(rows)
    index = rows.column("feature").to_numpy().astype(np.int64)
    changed: dict[str, Any] = {
        "n_active": np.full(n, 1000, np.int64),
        "density": np.full(n, 1e-4),
        "window_density": np.full(n, 2e-3),
        "max_act": pa.array(np.full(n, 8.0), pa.float32()),
        "top_token": pa.array((index * 7 % VOCABULARY).astype(np.int32)),
        "first_context": index * (EXPLAIN + SCORE),
        "n_contexts": pa.array(np.full(n, EXPLAIN + SCORE, np.int32)),
        "window_histogram_start": pa.array(np.full(n, bin_number(1.0)), pa.int16()),
        "window_histogram": listed(np.full(n * 24, 50, np.int32), 24),
    }
    columns = {name: rows.column(name) for name in rows.column_names} | changed
    return pa.table(columns)


def sequences(rng: np.random.Generator) -> pa.Table:
    """Documents of one sequence each, the splits by turns."""
    ids = rng.integers(0, VOCABULARY, DOCUMENTS * LENGTH, dtype=np.int32)
    return pa.table(
        {
            "sequence": pa.array(range(DOCUMENTS)),
            "document": pa.array(range(DOCUMENTS)),
            "start": pa.array([0] * DOCUMENTS),
            "split": ["explain", "score"] * (DOCUMENTS // 2),
            "token_ids": listed(ids, LENGTH),
        }
    )


def contexts(rng: np.random.Generator, first: int, n: int) -> pa.Table:
    """Half strongest windows, half over the range; each fires on one token."""
    each = EXPLAIN + SCORE
    split = np.tile(["explain"] * EXPLAIN + ["score"] * SCORE, n)
    stratum = np.tile((["top"] * 5 + ["range"] * 5) + (["top"] * 4 + ["range"] * 20), n)
    rank = np.tile(np.r_[np.arange(5), np.arange(5), np.arange(4), np.arange(20)], n)
    document = rng.integers(0, DOCUMENTS // 2, n * each) * 2 + (split == "score")
    start = rng.integers(1, LENGTH - WINDOW, n * each)
    peak = start + rng.integers(0, WINDOW, n * each)
    value = rng.gamma(4, 1, n * each).astype(np.float32) + 1
    ranged = stratum == "range"
    return pa.table(
        {
            "dictionary": [DICTIONARY] * (n * each),
            "feature": pa.array(np.repeat(np.arange(first, first + n), each), pa.int32()),
            "stratum": stratum,
            "rank": rank.astype(np.int16),
            "weight": pa.array(np.full(n * each, 50.0), pa.float32(), mask=~ranged),
            "split": split,
            "document": document.astype(np.int32),
            "sequence": document.astype(np.int32),
            "start": start.astype(np.int32),
            "length": np.full(n * each, WINDOW, np.int16),
            "peak": peak.astype(np.int32),
            "value": value,
            "positions": listed(peak.astype(np.uint16), 1),
            "activations": listed(value, 1),
        }
    )


def silent(rng: np.random.Generator, features: int) -> Iterator[dict[str, Any]]:
    """The pool; a few features fire in each window."""
    for number in range(SILENT):
        firing = np.sort(rng.choice(features, min(8, features), replace=False))
        yield {
            "dictionary": DICTIONARY,
            "window": number,
            "sequence": number,
            "start": 1,
            "length": WINDOW,
            "split": "score" if number % 2 else "explain",
            "positions": sorted(rng.integers(1, WINDOW, len(firing)).tolist()),
            "features": firing.tolist(),
            "activations": [1.0] * len(firing),
        }
