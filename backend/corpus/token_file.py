"""Documents become token ids, kept on disk, with what the split needs to know of each."""

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from jaxtyping import Bool, UInt32

from backend.corpus.documents import Corpus, Document
from backend.corpus.near_duplicates import DuplicateGroups

BATCH_DOCUMENTS = 256
BATCH_CHARACTERS = 2**20
"""A batch for the tokenizer ends at whichever comes first."""


class Tokenizer(Protocol):
    """A fast tokenizer of transformers, or anything that is called like one."""

    def __call__(
        self,
        text: list[str],
        *,
        add_special_tokens: bool,
        split_special_tokens: bool,
        verbose: bool,
    ) -> Any:
        """A mapping whose "input_ids" are one list of ids per text."""
        ...


class SpecialTokens:
    """Which token ids are left out of counts: BOS and the special tokens."""

    def __init__(self, bos: int | None, special_ids: Iterable[int]) -> None:
        self.bos = bos
        every = set(special_ids) if bos is None else {*special_ids, bos}
        self.ids: list[int] = sorted(every)
        self._table = np.zeros(max(self.ids, default=0) + 2, bool)  # the last stands for the rest
        self._table[self.ids] = True

    def counted(self, tokens: UInt32[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Whether each token counts."""
        return ~self._table[np.minimum(tokens, len(self._table) - 1)]


class TokenFile:
    """The token ids of documents, one after the other in one file (uint32, little-endian)."""

    def __init__(
        self, path: Path, corpus: Corpus, tokenizer: Tokenizer, specials: SpecialTokens
    ) -> None:
        self.ids: list[str] = []
        self.generated: list[bool] = []
        """Whether a document comes from a template."""
        self.groups = DuplicateGroups()
        self.counted = 0
        self.stray = 0
        """Special tokens that the tokenizer made out of a document's own text."""
        self.largest = 0
        """The largest token id."""
        self._borders = array("q", [0])
        self.specials = specials
        unknown = getattr(tokenizer, "unk_token_id", None)
        self._unknown = -1 if unknown in (None, specials.bos) else unknown
        self._path = path
        self._documents = _tokenise_documents(corpus, tokenizer, specials.bos)
        path.write_bytes(b"")

    def read_until(self, counted: int) -> bool:
        """Read on until so many counted tokens are there; False when the corpus ends before."""
        with self._path.open("ab") as file:
            while self.counted < counted:
                found = next(self._documents, None)
                if found is None:
                    return False
                self._append(*found, file)
        return True

    def lengths(self) -> list[int]:
        """Tokens of each document."""
        return np.diff(self._borders).tolist()

    def documents(self) -> Iterator[UInt32[np.ndarray, "tokens"]]:
        """The token ids of each document in turn."""
        if self._borders[-1] == 0:  # an empty file cannot be mapped
            yield from (np.zeros(0, np.uint32) for _ in self.ids)
            return
        every = np.memmap(self._path, "<u4", mode="r")
        for start, stop in zip(self._borders[:-1], self._borders[1:], strict=True):
            yield every[start:stop]

    def _append(
        self, document: Document, tokens: UInt32[np.ndarray, "tokens"], file: BinaryIO
    ) -> None:
        file.write(tokens.astype("<u4").tobytes())
        counted = self.specials.counted(tokens)
        self.counted += int(counted.sum())
        if not document.rendered:
            self.stray += int((tokens[~counted] != self._unknown).sum())
        self.largest = max(self.largest, int(tokens.max(initial=0)))
        self.ids.append(document.id)
        self.generated.append(document.template is not None)
        self.groups.add(document)
        self._borders.append(self._borders[-1] + len(tokens))


def _tokenise_documents(
    corpus: Corpus, tokenizer: Tokenizer, bos: int | None
) -> Iterator[tuple[Document, UInt32[np.ndarray, "tokens"]]]:
    """Every document with its token ids, without BOS in front.

    Special tokens spelt out in a document stay text (`split_special_tokens`), except in a chat
    template's own rendering, where they are meant.
    """
    for batch in _batch_documents(corpus):
        if batch[0].ids is not None:
            yield from ((document, _ready_token_ids(document, bos)) for document in batch)
            continue
        rendered = batch[0].rendered
        rows = tokenizer(
            [document.text for document in batch],
            add_special_tokens=False,
            split_special_tokens=not rendered,
            verbose=False,  # no warning of long documents: they are cut later
        )["input_ids"]
        for document, row in zip(batch, rows, strict=True):
            tokens = np.asarray(row, np.uint32)
            yield document, _strip_bos(tokens, bos) if rendered else tokens


def _ready_token_ids(document: Document, bos: int | None) -> UInt32[np.ndarray, "tokens"]:
    """The ready-made token ids of a document, without BOS in front."""
    return _strip_bos(np.asarray(document.ids, np.uint32), bos)


def _strip_bos(
    tokens: UInt32[np.ndarray, "tokens"], bos: int | None
) -> UInt32[np.ndarray, "tokens"]:
    """Tokens without the BOS in front, since each sequence gets its own."""
    return tokens[1:] if bos is not None and len(tokens) and tokens[0] == bos else tokens


def _batch_documents(corpus: Corpus) -> Iterator[list[Document]]:
    """Documents in lists for the tokenizer, all of a list of one kind: plain text, a chat
    template's, or ready-made token ids."""
    batch: list[Document] = []
    characters = 0
    for document in corpus:
        full = len(batch) == BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS
        kind = (document.rendered, document.ids is None)
        if batch and (full or kind != (batch[0].rendered, batch[0].ids is None)):
            yield batch
            batch, characters = [], 0
        batch.append(document)
        characters += len(document.text)
    if batch:
        yield batch
