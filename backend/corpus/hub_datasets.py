"""Hugging Face datasets as corpora, streamed row by row: `hf:NAME[:CONFIG][@SPLIT]` or plain
`org/name`."""

import re
from collections.abc import Iterator
from typing import Any

from backend.corpus.document_rows import RowColumns, parse_document_row
from backend.corpus.documents import Corpus, Document
from feature_store.errors import InputError

HUB_PREFIX = "hf:"
DATASET_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?(@[\w.-]+)?")
"""Pattern of `org/name`, with an optional configuration and split; a path with more or fewer parts
is a file."""


def looks_like_dataset(spec: str) -> bool:
    """Return whether `spec`, which is no local file, can be the name of a Hugging Face dataset."""
    return spec.startswith(HUB_PREFIX) or bool(DATASET_NAME.fullmatch(spec))


def hub_corpus(spec: str, columns: RowColumns) -> Corpus:
    """Return the rows of a Hugging Face dataset's split (default `train`) as a corpus. The network
    is first used when the corpus is read. Raises InputError where no dataset is named."""
    dataset, _, split = spec.removeprefix(HUB_PREFIX).partition("@")
    name, _, config = dataset.partition(":")
    if not name:
        raise InputError(
            f"{spec!r} names no dataset; write hf:NAME, hf:NAME:CONFIG or hf:NAME@SPLIT."
        )
    label = f"{dataset}@{split or 'train'}"

    def read() -> Iterator[Document]:
        rows = _stream_rows(spec, name, config or None, split or "train")
        for number, row in enumerate(rows, start=1):
            where = f"Dataset {label}, row {number}"
            document = parse_document_row(row, f"{label}#{number}", where, columns)
            if document is not None:
                yield document

    return Corpus(f"{HUB_PREFIX}{label}", read, scan=False)


def _stream_rows(spec: str, name: str, config: str | None, split: str) -> Iterator[Any]:
    """Stream the rows of a Hugging Face dataset. Raises InputError where the dataset cannot be
    read."""
    import datasets

    # ValueError: an unknown configuration or split. OSError: not there, private, or no network.
    try:
        yield from datasets.load_dataset(name, config, split=split, streaming=True)
    except (OSError, ValueError) as failed:
        if isinstance(failed, InputError):
            raise
        reason = " ".join(str(failed).split()).rstrip(".")
        raise InputError(
            f"{spec!r} is not a local file or folder, and cannot be read as a Hugging Face "
            f"dataset: {reason}."
        ) from failed
