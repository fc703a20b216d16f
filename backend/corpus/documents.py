"""Documents of a corpus: an ordered collection of texts, each with an id that is the same in every
run, and the two splits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from feature_store.errors import InputError

Split = Literal["explain", "score"]
SPLITS: tuple[Split, Split] = ("explain", "score")
"""Names of the two splits. A split is stored as its index here: 0 is shown to explainers, 1 is used
by scorers."""


@dataclass(frozen=True)
class Document:
    """Document of a corpus: one text and its origin."""

    id: str
    """Id of the document, unique in its corpus and the same in every run: `stories.jsonl#17` is
    line 17."""
    text: str
    """Text of the document, or for ready-made token ids the text that they decode to."""
    template: str | None = None
    """Template of generated text, or None. Documents of one template are always in the same
    split."""
    rendered: bool = False
    """Whether the text was rendered by a chat template, so that special tokens written in it are
    tokenised as such."""
    ids: tuple[int, ...] | None = None
    """Ready-made token ids that are fed as they are, or None where the text is tokenised."""


@dataclass(frozen=True)
class Corpus:
    """Corpus: documents in a fixed order, read from their source at each iteration. Documents
    without text are skipped."""

    name: str
    """Name of the corpus in records: the file's or folder's own name, never an absolute path."""
    read: Callable[[], Iterator[Document]]
    scan: bool = True
    """Whether checking the corpus reads all of it, rather than its first document only."""

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents that have text. Raises InputError at the end where there was none."""
        found = False
        for document in self.read():
            if document.text.strip():
                found = True
                yield document
        if not found:
            raise InputError(f"Corpus {self.name!r} contains no document with text.")
