"""Token file: the token ids of a corpus's documents, tokenised and kept on disk, with each
document's length and what the splits need to know of it."""

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
"""Characters of a batch for the tokenizer; a batch ends at this or at BATCH_DOCUMENTS documents,
whichever comes first."""


class Tokenizer(Protocol):
    """Protocol of a fast tokenizer of transformers, or of anything that is called in the same
    way."""

    def __call__(
        self,
        text: list[str],
        *,
        add_special_tokens: bool,
        split_special_tokens: bool,
        verbose: bool,
    ) -> Any:
        """Tokenise texts: returns a mapping whose "input_ids" hold one list of token ids per
        text."""
        ...


class SpecialTokens:
    """Token ids that do not count towards a corpus's number of tokens: BOS and the special
    tokens."""

    def __init__(self, bos: int | None, special_ids: Iterable[int]) -> None:
        self.bos = bos
        every = set(special_ids) if bos is None else {*special_ids, bos}
        self.ids: list[int] = sorted(every)
        self._table = np.zeros(
            max(self.ids, default=0) + 2, bool
        )  # the last entry serves all larger ids
        self._table[self.ids] = True

    def counted(self, tokens: UInt32[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Return for each token id whether the token counts, since it is neither BOS nor another
        special token: bool [n]."""
        return ~self._table[np.minimum(tokens, len(self._table) - 1)]


class TokenFile:
    """File of the token ids of documents, one document after the other (uint32, little-endian),
    filled as far as needed."""

    def __init__(
        self, path: Path, corpus: Corpus, tokenizer: Tokenizer, specials: SpecialTokens
    ) -> None:
        self.ids: list[str] = []
        self.generated: list[bool] = []
        """Whether each document comes from a template."""
        self.groups = DuplicateGroups()
        self.counted = 0
        self.stray = 0
        """Number of special tokens that the tokenizer made from documents' own text."""
        self.largest = 0
        """Largest token id in the file."""
        self._borders = array("q", [0])
        self.specials = specials
        unknown = getattr(tokenizer, "unk_token_id", None)
        self._unknown = -1 if unknown in (None, specials.bos) else unknown
        self._path = path
        self._documents = _tokenise_documents(corpus, tokenizer, specials.bos)
        path.write_bytes(b"")

    def read_until(self, counted: int) -> bool:
        """Tokenise further documents until the file holds `counted` counted tokens. Returns False
        where the corpus ends before."""
        with self._path.open("ab") as file:
            while self.counted < counted:
                found = next(self._documents, None)
                if found is None:
                    return False
                self._append(*found, file)
        return True

    def lengths(self) -> list[int]:
        """Return the number of tokens of each document."""
        return np.diff(self._borders).tolist()

    def documents(self) -> Iterator[UInt32[np.ndarray, "tokens"]]:
        """Yield the token ids of each document in turn."""
        if self._borders[-1] == 0:  # an empty file cannot be mapped
            yield from (np.zeros(0, np.uint32) for _ in self.ids)
            return
        every = np.memmap(self._path, "<u4", mode="r")
        for start, stop in zip(self._borders[:-1], self._borders[1:], strict=True):
            yield every[start:stop]

    def _append(
        self, document: Document, tokens: UInt32[np.ndarray, "tokens"], file: BinaryIO
    ) -> None:
        """Append a document's token ids to the file and record its length, id and near-duplicate
        sketch."""
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
    """Yield every document of a corpus with its token ids, without BOS in front.

    Special tokens that are spelt out in a document stay text (`split_special_tokens`), except in
    text rendered by a chat template, where they are meant.
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
            verbose=False,  # no warning about long documents, which are cut later
        )["input_ids"]
        for document, row in zip(batch, rows, strict=True):
            tokens = np.asarray(row, np.uint32)
            yield document, _strip_bos(tokens, bos) if rendered else tokens


def _ready_token_ids(document: Document, bos: int | None) -> UInt32[np.ndarray, "tokens"]:
    """Return a document's ready-made token ids, without BOS in front."""
    return _strip_bos(np.asarray(document.ids, np.uint32), bos)


def _strip_bos(
    tokens: UInt32[np.ndarray, "tokens"], bos: int | None
) -> UInt32[np.ndarray, "tokens"]:
    """Return the token ids without a BOS in front, since each sequence gets its own."""
    return tokens[1:] if bos is not None and len(tokens) and tokens[0] == bos else tokens


def _batch_documents(corpus: Corpus) -> Iterator[list[Document]]:
    """Yield lists of documents for the tokenizer, each of one kind: plain text, text rendered by a
    chat template, or ready-made token ids."""
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
