"""What a corpus is: an ordered set of documents, each with an id that stays the same."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from feature_store.errors import InputError

Split = Literal["explain", "score"]
SPLITS: tuple[Split, Split] = ("explain", "score")
"""A split is stored as its index here: 0 is shown to explainers, 1 is asked by scorers."""


@dataclass(frozen=True)
class Document:
    """One text, and where it comes from."""

    id: str
    """Unique in its corpus and the same in every run: `stories.jsonl#17` is line 17."""
    text: str
    template: str | None = None
    """For generated text: what it was generated from. A template never straddles the split."""
    rendered: bool = False
    """The text is a chat template's: special tokens written in it are meant as such."""
    ids: tuple[int, ...] | None = None
    """Ready-made token ids, fed as they are; `text` is then what they decode to."""


@dataclass(frozen=True)
class Corpus:
    """Documents in a fixed order, read anew at each iteration; those without text are left out."""

    name: str
    """What records call it: a file's or folder's own name, never a path of this machine."""
    read: Callable[[], Iterator[Document]]
    scan: bool = True
    """Whether checking it means reading it through, rather than its first document."""

    def __iter__(self) -> Iterator[Document]:
        """The documents that have text; InputError at the end when there was none."""
        found = False
        for document in self.read():
            if document.text.strip():
                found = True
                yield document
        if not found:
            raise InputError(f"Corpus {self.name!r} holds no document with text.")
