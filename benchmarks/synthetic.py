"""A store of one harvest file with as many features as wanted: figures drawn, no model behind them.

It goes through the real schema and writer, so a page reads it as it reads any other. Only the facts
of features and the tokens' tables are there; contexts are not.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from feature_store.harvest_writer import SCHEMA_VERSION, HarvestWriter
from feature_store.store import Store

DICTIONARY, HARVEST = "wide", "synthetic-0001"
TOKENS, VOCABULARY = 10_000_000, 5_000
PROMOTED, NEIGHBOURS, BINS = 10, 10, 24
"""Lengths of the lists of a feature."""
BATCH = 65_536
DEAD = 0.05
"""Share of features that never fired."""
LABELLED, STARRED = 2_000, 200
"""Features that people said something of."""
WORDS = ("park", "dog", "river", "red", "number", "because", "quote", "indent", "year", "verb")
"""What labels are made of."""


def build(path: Path, features: int, *, said: bool = True) -> Store:
    """A store with a dictionary of so many features; half a minute for a million."""
    store = Store.create(path)
    target = path / "harvests" / f"{HARVEST}.duckdb"
    if not target.exists():
        work = path / "work" / HARVEST
        work.mkdir(parents=True, exist_ok=True)
        writer = HarvestWriter(work, memory_limit="1GB")
        writer.append_rows("harvest", pa.Table.from_pylist([harvest()]))
        writer.append_rows("dictionary", pa.Table.from_pylist([dictionary(features)]))
        writer.append_rows("token", tokens())
        for rows in facts(features):
            writer.append_rows("feature", rows)
        writer.publish(target)
        if said:
            annotate(store, features)
    return store


def annotate(store: Store, features: int) -> None:
    """Labels and stars of some features, in one transaction."""
    rng = np.random.default_rng(1)
    chosen = rng.permutation(features)[:LABELLED]
    stars = chosen[:STARRED]
    labels = [" ".join(rng.choice(WORDS, 3)) for _ in chosen]
    rows = pa.table(
        {
            "feature": pa.array(np.concatenate([chosen, stars]), pa.int32()),
            "kind": ["label"] * len(chosen) + ["star"] * len(stars),
            "value": labels + ["1"] * len(stars),
        }
    )
    with store.catalog.transaction() as db:
        db.register("incoming", rows)
        db.execute(
            "INSERT INTO annotation BY NAME "
            "SELECT $1 AS dictionary, $2 AS created, * FROM incoming",
            [DICTIONARY, datetime(2026, 1, 2, 3, 4, 5)],
        )
        db.unregister("incoming")


def harvest() -> dict[str, Any]:
    """What the file says of itself."""
    then = datetime(2026, 1, 2, 3, 4, 5)
    return {
        "id": HARVEST,
        "schema": SCHEMA_VERSION,
        "model": "synthetic",
        "model_source": "none",
        "model_hash": "00",
        "corpus": "none",
        "tokens": TOKENS,
        "documents": 1,
        "sequences": 1,
        "context_size": 128,
        "window_size": 32,
        "windows": TOKENS // 32,
        "packed": True,
        "seed": 0,
        "forward_batch": 1024,
        "dtype": "float32",
        "device": "cpu",
        "encoding": "exact",
        "versions": "{}",
        "revision": "unknown",
        "warnings": [],
        "started": then,
        "finished": then,
    }


def dictionary(features: int) -> dict[str, Any]:
    """What it says of its dictionary."""
    site = {"hook": "blocks.0.hook_resid_post", "start": 0, "stop": 256, "model": ""}
    return {
        "dictionary": DICTIONARY,
        "reads": [site],
        "writes": [site],
        "architecture": "topk",
        "signed": False,
        "d_in": 256,
        "d_out": 256,
        "d_sae": features,
        "source": "none",
        "weights_hash": "00",
        "model_kwargs": "{}",
        "check_words": [],
        "n_dead": int(features * DEAD),
        "mean_active": 32.0,
        "coactive_tokens": 0,
        "coactive_rate": 0.0,
        "token_sample_tokens": 0,
        "token_sample_rate": 0.0,
    }


def tokens() -> pa.Table:
    """A vocabulary of made-up words."""
    texts = [f" word{n}" for n in range(VOCABULARY)]
    ids = pa.array(range(VOCABULARY), pa.int32())
    return pa.table({"token_id": ids, "text": texts, "bytes": [t.encode() for t in texts]})


def facts(features: int) -> Iterator[pa.Table]:
    """The rows of `feature` in batches; columns are drawn independently of one another."""
    rng = np.random.default_rng(0)
    for first in range(0, features, BATCH):
        yield batch(rng, first, min(BATCH, features - first), features)


def batch(rng: np.random.Generator, first: int, n: int, features: int) -> pa.Table:
    """`n` rows from feature `first` on."""
    density = np.minimum(rng.lognormal(-7, 1.5, n), 1.0)
    dead = rng.random(n) < DEAD
    density[dead] = 0.0

    def alive(values: np.ndarray, kind: pa.DataType) -> pa.Array:
        return pa.array(values, kind, mask=dead)

    top = rng.gamma(4, 2, n)
    columns = {
        "dictionary": pa.array([DICTIONARY] * n, pa.string()),
        "feature": pa.array(np.arange(first, first + n), pa.int32()),
        "n_active": pa.array((density * TOKENS).astype(np.int64)),
        "density": density,
        "window_density": np.minimum(density * 20, 1.0),
        "max_act": alive(top, pa.float32()),
        "mean_act": alive(top * rng.uniform(0.1, 0.6, n), pa.float64()),
        "mean_all": top * density,
        "std_act": alive(top * 0.2, pa.float64()),
        "skew": alive(rng.gamma(2, 1, n), pa.float64()),
        "kurtosis": alive(3 + rng.gamma(2, 3, n), pa.float64()),
        "bos_act": alive(np.zeros(n), pa.float32()),
        "mean_position": alive(rng.normal(60, 8, n), pa.float64()),
        "top_token": alive(rng.integers(0, VOCABULARY, n), pa.int32()),
        "top_token_share": alive(rng.beta(1, 4, n), pa.float64()),
        "top_token_n": rng.integers(0, 500, n),
        "logit_kurtosis": 3 + rng.gamma(2, 2, n),
        "decoder_norm": rng.normal(1, 0.05, n).astype(np.float32),
        "encoder_decoder_cosine": rng.beta(8, 3, n).astype(np.float32),
        "first_context": np.zeros(n, np.int64),
        "n_contexts": np.zeros(n, np.int32),
        **lists(rng, n, features),
    }
    return pa.table(columns)


def lists(rng: np.random.Generator, n: int, features: int) -> dict[str, pa.Array]:
    """The columns that hold a list a feature."""

    def ids(length: int, below: int) -> pa.Array:
        return listed(rng.integers(0, below, n * length, dtype=np.int32), length)

    def values(length: int) -> pa.Array:
        return listed(np.sort(rng.random((n, length), np.float32))[:, ::-1].ravel(), length)

    return {
        "promoted_tokens": ids(PROMOTED, VOCABULARY),
        "promoted_values": values(PROMOTED),
        "suppressed_tokens": ids(PROMOTED, VOCABULARY),
        "suppressed_values": values(PROMOTED),
        "histogram_start": pa.array(np.full(n, 500), pa.int16()),
        "histogram": ids(BINS, 1000),
        "nearest": ids(NEIGHBOURS, features),
        "nearest_cosine": values(NEIGHBOURS),
    }


def listed(values: np.ndarray, length: int) -> pa.Array:
    """A list column of so many values a row."""
    offsets = np.arange(0, len(values) + 1, length, dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, values)
