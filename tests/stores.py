"""A small store built by hand, without a model: for tests of reading, pages and commands."""

import atexit
import shutil
import tempfile
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.activation_histogram import bin_number
from feature_store.harvest_writer import SCHEMA_VERSION, HarvestWriter
from feature_store.store import Store

WORDS = ["<s>", " the", " dog", " cat", " sat", "\n"]
WORDS += [" <script>alert(1)</script>", " &amp;", " ran"]
PIECES = [word.encode() for word in WORDS] + [b"\xe2\x82", b"\xac", b" a & b", "é".encode()]
D_SAE, N_SEQUENCES, LENGTH, WINDOW = 40, 30, 48, 32
DEAD = 7
"""A feature that never fired."""


def make_store(path: Path, harvest_id: str = "tiny-0001", *, signed: bool = True) -> Store:
    """A store with one harvest of two dictionaries: `resid` and the signed `abs`."""
    shutil.copytree(made(harvest_id, signed), path, dirs_exist_ok=True)
    return Store.create(path)


@cache
def made(harvest_id: str, signed: bool) -> Path:
    """The store that others are copies of: made once in a process, gone when it ends."""
    path = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, path)
    Store.create(path)
    work = path / "work" / harvest_id
    work.mkdir(parents=True)
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, len(PIECES), (N_SEQUENCES, LENGTH)).astype(np.int32)
    tokens[:, 0] = 0
    writer = HarvestWriter(work)
    names = ["resid", "abs"] if signed else ["resid"]
    first = 0
    dictionaries, features, contexts = [], [], []
    for name in names:
        dictionaries.append(dictionary_row(name, signed=name == "abs"))
        for feature in range(D_SAE):
            found = context_rows(rng, name, feature, signed=name == "abs")
            features.append(feature_row(name, feature, found, first, signed=name == "abs"))
            contexts += found
            first += len(found)
    writer.append_rows("harvest", pa.Table.from_pylist([harvest_row(harvest_id)]))
    for table, rows in [("dictionary", dictionaries), ("feature", features), ("context", contexts)]:
        writer.append_rows(table, pa.Table.from_pylist(rows))
    writer.append_rows("sequence", pa.Table.from_pylist(sequence_rows(tokens)))
    documents = [{"document": i, "name": f"text.jsonl#{i}"} for i in range(N_SEQUENCES)]
    writer.append_rows("document", pa.Table.from_pylist(documents))
    writer.append_rows("silent_window", pa.Table.from_pylist(silent_rows(names)))
    vocabulary = [
        {"token_id": i, "text": piece.decode(errors="replace"), "bytes": piece}
        for i, piece in enumerate(PIECES)
    ]
    writer.append_rows("token", pa.Table.from_pylist(vocabulary))
    writer.publish(path / "harvests" / f"{harvest_id}.duckdb")
    return path


def harvest_row(harvest_id: str) -> dict:
    time = datetime(2026, 1, 2, 3, 4, 5)
    return {
        "id": harvest_id,
        "schema": SCHEMA_VERSION,
        "model": "tiny",
        "model_source": "tiny",
        "model_hash": "00",
        "corpus": "text.jsonl",
        "tokens": N_SEQUENCES * (LENGTH - 1),
        "documents": N_SEQUENCES,
        "sequences": N_SEQUENCES,
        "context_size": LENGTH,
        "window_size": WINDOW,
        "windows": N_SEQUENCES * 2,
        "packed": False,
        "seed": 0,
        "forward_batch": 1024,
        "dtype": "float32",
        "device": "cpu",
        "encoding": "exact",
        "versions": '{"saefari": "0.1.0"}',
        "revision": "unknown",
        "warnings": [],
        "started": time,
        "finished": time,
    }


def dictionary_row(name: str, *, signed: bool) -> dict:
    return {
        "dictionary": name,
        "reads": [{"hook": "blocks.1.hook_resid_post", "start": 0, "stop": 16, "model": ""}],
        "writes": [{"hook": "blocks.1.hook_resid_post", "start": 0, "stop": 16, "model": ""}],
        "architecture": "abstopk" if signed else "topk",
        "signed": signed,
        "d_in": 16,
        "d_out": 16,
        "d_sae": D_SAE,
        "source": name,
        "weights_hash": "11",
        "model_kwargs": "{}",
        "explained_variance": 0.91,
        "l0": 4.0,
        "ce_clean": 1.5,
        "ce_spliced": 1.6,
        "ce_zero": 6.0,
        "ce_mean": 4.0,
        "delta_ce": 0.1,
        "recovery_zero": 0.978,
        "recovery_mean": 0.96,
        "check_tokens": 900,
        "check_documents": 50,
        "published_l0": None,
        "published_explained_variance": None,
        "check_words": [],
        "n_dead": 1,
        "mean_active": 4.0,
        "coactive_tokens": 500,
        "coactive_rate": 0.5,
        "token_sample_tokens": 500,
        "token_sample_rate": 0.5,
    }


def context_rows(rng: np.random.Generator, name: str, feature: int, *, signed: bool) -> list[dict]:
    if feature == DEAD:
        return []
    rows = []
    strata = [("top", 20), *([("bottom", 20)] if signed else []), ("range", 40)]
    for stratum, count in strata:
        sign = {"top": 1, "bottom": -1}.get(stratum)
        values = np.sort(rng.gamma(2, 1, count) + (4 if stratum != "range" else 0.1))[::-1]
        for rank, value in enumerate(values.tolist()):
            side = sign or (1 if not signed or rank % 2 else -1)
            start = int(rng.integers(0, LENGTH - WINDOW))
            peak = start + int(rng.integers(1, WINDOW))
            positions = sorted({peak, start + 1})
            acts = [side * (value if p == peak else value / 2) for p in positions]
            rows.append(
                {
                    "dictionary": name,
                    "feature": feature,
                    "stratum": stratum,
                    "rank": rank,
                    "weight": 3.0 if stratum == "range" else None,
                    "split": "explain" if rank % 2 else "score",
                    "document": rank % N_SEQUENCES,
                    "sequence": rank % N_SEQUENCES,
                    "start": start,
                    "length": WINDOW,
                    "peak": peak,
                    "value": side * value,
                    "positions": positions,
                    "activations": acts,
                }
            )
    return rows


def side_row(n: int, top: float) -> dict:
    return {
        "n_active": n,
        "density": n / 1410,
        "window_density": min(1.0, n / 60),
        "max_act": top,
        "mean_act": top / 2,
        "std_act": 1.0,
        "skew": 0.5,
        "kurtosis": 3.1,
        "histogram_start": bin_number(top / 8),
        "histogram": [1, 2, 5, 9, 7, 4, 3, 2, 1, 1, 1, 1, 1],
    }


def feature_row(name: str, feature: int, found: list[dict], first: int, *, signed: bool) -> dict:
    top = max((abs(row["value"]) for row in found), default=None)
    common = {
        "dictionary": name,
        "feature": feature,
        "mean_all": 0.05,
        "top_token_n": 20 if found else 0,
        "promoted_tokens": [2, 3, 8],
        "promoted_values": [0.6, 0.4, 0.1],
        "suppressed_tokens": [5, 6, 1],
        "suppressed_values": [-0.5, -0.4, -0.2],
        "logit_kurtosis": 4.2,
        "decoder_norm": 1.0,
        "encoder_decoder_cosine": 0.8,
        "nearest": [(feature + 1) % D_SAE, (feature + 2) % D_SAE],
        "nearest_cosine": [0.7, 0.3],
        "coactive": [(feature + 3) % D_SAE],
        "coactive_phi": [0.4],
        "coactive_count": [12],
        "first_context": first,
        "n_contexts": len(found),
        "positive": None,
        "negative": None,
    }
    if top is None:
        return common | {"n_active": 0, "density": 0.0, "window_density": 0.0, "max_act": None}
    sides = {"positive": side_row(22, top), "negative": side_row(18, top)} if signed else {}
    return (
        common
        | sides
        | side_row(40 + feature, top)
        | {
            "bos_act": 0.0,
            "mean_position": 20.5,
            "top_token": 2,
            "top_token_share": 0.35,
            "window_histogram_start": bin_number(top / 8),
            "window_histogram": [1, 2, 4, 6, 5, 4, 2, 1],
        }
    )


def sequence_rows(tokens: np.ndarray) -> list[dict]:
    return [
        {
            "sequence": i,
            "document": i,
            "start": 0,
            "split": "explain" if i % 2 else "score",
            "token_ids": row.tolist(),
        }
        for i, row in enumerate(tokens)
    ]


def silent_rows(names: list[str]) -> list[dict]:
    return [
        {
            "dictionary": name,
            "window": w,
            "sequence": w,
            "start": 0,
            "length": WINDOW,
            "split": "explain" if w % 2 else "score",
            "positions": [1, 4],
            "features": [2, 3],
            "activations": [0.5, 1.5],
        }
        for name in names
        for w in range(10)
    ]
