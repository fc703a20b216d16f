"""The searches over one wide synthetic dictionary, in this process. Started by the others."""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

WORDS, CORPUS, LENGTH = 20_000, 500_000, 6
"""Different words; words of corpus; words of a label."""
SEQUENCES, CONTEXT, STRONG = 4096, 128, 20
"""Stored sequences, tokens in each, and strong contexts of a feature."""
QUERIES = 20


def main() -> None:
    """Read the arguments, measure, write the facts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--features", type=int, default=131_072)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.write_text(json.dumps(measure(args.features)), "utf-8")


def measure(features: int) -> dict[str, Any]:
    """Labels by words and by meaning, and tokens."""
    rng = np.random.default_rng(0)
    words = np.array([spelled(i) for i in range(WORDS)])
    labels = texts(rng, words, features, LENGTH)
    corpus = texts(rng, words, max(CORPUS // 100, 1), 100)
    with tempfile.TemporaryDirectory() as folder:
        return {
            "features": features,
            "labels": by_label(rng, words, labels),
            "meaning": by_meaning(rng, words, labels, corpus),
            "tokens": by_token(rng, Path(folder), words, features),
        }


def spelled(number: int) -> str:
    """A made-up word, as many different ones as are wanted."""
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    first, rest = divmod(number, len(syllables) ** 2)
    second, third = divmod(rest, len(syllables))
    return syllables[second] + syllables[third] + (syllables[first - 1] if first else "")


def texts(rng: np.random.Generator, words: np.ndarray, n: int, length: int) -> list[str]:
    """Texts of words as frequent as words are: by Zipf's law."""
    shares = 1 / np.arange(1, len(words) + 1)
    drawn = rng.choice(words, (n, length), p=shares / shares.sum())
    return [" ".join(row) for row in drawn.tolist()]


def spent(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of a call, and what it gave."""
    begin = time.process_time()
    found = call()
    return time.process_time() - begin, found


def each(ask: Callable[[str], Any], queries: list[str]) -> dict[str, float]:
    """Median and worst cpu-ms over queries, the first left out."""
    took = [1000 * spent(lambda query=query: ask(query))[0] for query in queries][1:]
    return {"median_ms": median(took), "worst_ms": max(took)}


def by_label(rng: np.random.Generator, words: np.ndarray, labels: list[str]) -> dict[str, Any]:
    """Keyword search: words as they are, and with a typing error."""
    from feature_store.word_index import WordIndex

    build, index = spent(lambda: WordIndex(labels))
    queries = texts(rng, words, QUERIES, 2)
    wrong = [query[1] + query[0] + query[2:] for query in queries]
    return {
        "build_s": build,
        "exact": each(index.find, queries),
        "typing error": each(index.find, wrong),
    }


def by_meaning(
    rng: np.random.Generator, words: np.ndarray, labels: list[str], corpus: list[str]
) -> dict[str, Any]:
    """Nearest labels, and beside it the bare product of matrix and vector that it rests on."""
    from autointerp.text_embeddings import MeaningIndex
    from autointerp.word_vectors import WordVectors

    learn, embedder = spent(lambda: WordVectors(corpus, labels))
    build, index = spent(lambda: MeaningIndex(embedder, labels))
    queries = texts(rng, words, QUERIES, 3)
    matrix = rng.standard_normal((len(set(labels)), 128)).astype(np.float32)
    vector = matrix[0].copy()
    return {
        "learn_s": learn,
        "build_s": build,
        "query": each(lambda query: index.find(embedder.embed_query(query)), queries),
        "product": each(lambda _: matrix @ vector, queries),
    }


def by_token(
    rng: np.random.Generator, folder: Path, words: np.ndarray, features: int
) -> dict[str, Any]:
    """Features that fire on a token or promote it, from the meaning of the query on."""
    from feature_store.token_search import TokenIndex, parse_token_query

    file = synthetic(rng, folder, words, features)
    build, index = spent(lambda: TokenIndex(file))
    names = list(file.dictionaries)

    def ask(query: str) -> Any:
        return index.find(parse_token_query(query, file.vocabulary).ids, names)

    queries = rng.choice(words, QUERIES).tolist()
    return {"build_s": build, "query": each(ask, queries)}


def synthetic(rng: np.random.Generator, folder: Path, words: np.ndarray, features: int) -> Any:
    """A harvest file with what the search by token reads: facts, strong contexts, sequences."""
    from benchmarks import synthetic as wide
    from feature_store.harvest_reader import HarvestFile
    from feature_store.harvest_writer import HarvestWriter

    def ids(n: int, below: int) -> np.ndarray:
        return rng.integers(0, below, n, dtype=np.int32)

    writer = HarvestWriter(folder, memory_limit="2GB")
    writer.append_rows("harvest", pa.Table.from_pylist([wide.harvest()]))
    writer.append_rows("dictionary", pa.Table.from_pylist([wide.dictionary(features)]))
    spellings = [f" {word}" for word in words]
    token_ids = pa.array(range(len(words)), pa.int32())
    pieces = [text.encode() for text in spellings]
    writer.append_rows(
        "token", pa.table({"token_id": token_ids, "text": spellings, "bytes": pieces})
    )
    flat = wide.listed(ids(SEQUENCES * CONTEXT, len(words)), CONTEXT)
    numbers = pa.array(range(SEQUENCES), pa.int32())
    starts = pa.array(np.zeros(SEQUENCES, np.int32))
    where = {"sequence": numbers, "document": numbers, "start": starts}
    writer.append_rows(
        "sequence", pa.table({**where, "split": ["explain"] * SEQUENCES, "token_ids": flat})
    )
    for first in range(0, features, wide.BATCH):
        n = min(wide.BATCH, features - first)
        writer.append_rows("feature", facts(wide.batch(rng, first, n, features), first, n))
        writer.append_rows("context", contexts(rng, first, n))
    writer.publish(folder / "wide.duckdb")
    return HarvestFile(folder / "wide.duckdb")


def facts(rows: pa.Table, first: int, n: int) -> pa.Table:
    """Rows of `feature`, with where their contexts are."""
    begins = pa.array(np.arange(first, first + n, dtype=np.int64) * STRONG)
    counts = pa.array(np.full(n, STRONG, np.int32))
    rows = rows.drop_columns(["first_context", "n_contexts"])
    return rows.append_column("first_context", begins).append_column("n_contexts", counts)


def contexts(rng: np.random.Generator, first: int, n: int) -> pa.Table:
    """STRONG contexts for each of `n` features, one active token in each."""
    from benchmarks import synthetic as wide

    many = n * STRONG
    peaks = rng.integers(0, CONTEXT, many, dtype=np.int32)
    values = rng.random(many, np.float32)
    return pa.table(
        {
            "dictionary": pa.array([wide.DICTIONARY] * many),
            "feature": np.repeat(np.arange(first, first + n, dtype=np.int32), STRONG),
            "stratum": pa.array(["top"] * many),
            "rank": np.tile(np.arange(STRONG, dtype=np.int16), n),
            "split": pa.array(["explain"] * many),
            "document": np.zeros(many, np.int32),
            "sequence": rng.integers(0, SEQUENCES, many, dtype=np.int32),
            "start": np.zeros(many, np.int32),
            "length": np.full(many, 32, np.int16),
            "peak": peaks,
            "value": values,
            "positions": wide.listed(peaks.astype(np.uint16), 1),
            "activations": wide.listed(values, 1),
        }
    )


if __name__ == "__main__":
    main()
