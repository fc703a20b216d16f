"""A plan of sequences on disk: exactly what a model is fed, in one folder.

`tokens.bin` holds the token ids of all sequences one after the other (uint32, little-endian, BOS
included, no padding); the .npy files one number per sequence or segment; `documents.jsonl` the
ids; `plan.json`, written last, the rest. The same inputs give the same bytes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, Int64, UInt8, UInt32

from feature_store.errors import InputError
from feature_store.strict_json import parse_json

TOKENS_FILE, DOCUMENT_IDS_FILE, PLAN_FILE = "tokens.bin", "documents.jsonl", "plan.json"
SEQUENCE_ARRAYS = {
    "document": "<i4",
    "start": "<i4",
    "length": "<i4",
    "split": "<u1",
    "offset": "<i8",
}
SEGMENT_ARRAYS = {
    "segment_sequence": "<i4",
    "segment_position": "<i4",
    "segment_document": "<i4",
    "segment_start": "<i4",
}


@dataclass(frozen=True)
class SequencePlan:
    """What a harvest feeds to a model, memory-mapped from `folder`."""

    folder: Path
    document: Int32[np.ndarray, "sequences"]
    """Index into `document_ids`: the (first) document of each sequence."""
    start: Int32[np.ndarray, "sequences"]
    """Where in that document the sequence begins, in the document's tokens."""
    length: Int32[np.ndarray, "sequences"]
    """Tokens that are fed, BOS included."""
    split: UInt8[np.ndarray, "sequences"]
    """0 explain, 1 score."""
    offset: Int64[np.ndarray, "sequences"]
    """Where in tokens.bin the sequence begins, in tokens."""
    segment_sequence: Int32[np.ndarray, "segments"]
    segment_position: Int32[np.ndarray, "segments"]
    """Where in its sequence a document's segment begins, BOS counted."""
    segment_document: Int32[np.ndarray, "segments"]
    segment_start: Int32[np.ndarray, "segments"]
    """Where in the document the segment begins, in tokens; all four hold at every segment."""
    document_ids: list[str]
    warnings: list[str]
    """Sentences for the user: what the split, packing or the corpus's size means for the result."""
    n_tokens: int
    """Counted tokens: without BOS and special tokens."""
    n_documents: int
    """Documents of which at least one sequence holds a part."""
    bos: int | None
    special_ids: frozenset[int]
    """All ids that are not counted, BOS among them."""
    context_size: int
    packed: bool
    corpus: str
    digest: str
    """SHA-256 of the tokens, arrays and ids: equal for equal content."""
    every_token: UInt32[np.ndarray, "tokens"]
    """tokens.bin, mapped."""

    @property
    def n_sequences(self) -> int:
        return len(self.length)

    def tokens(self, i: int) -> UInt32[np.ndarray, "length"]:
        """What is fed as sequence `i`, BOS included; a view into the mapped file."""
        start = int(self.offset[i])
        return self.every_token[start : start + int(self.length[i])]

    @classmethod
    def complete(cls, folder: Path) -> bool:
        """Whether `folder` holds a plan that was written to its end."""
        return (folder / PLAN_FILE).is_file()

    @classmethod
    def load(cls, folder: Path) -> "SequencePlan":
        """The plan in `folder`; InputError when there is none, or it was cut short."""
        if not cls.complete(folder):
            raise InputError(f"{str(folder)!r} holds no finished plan of sequences; make it anew.")
        facts: dict[str, Any] = parse_json((folder / PLAN_FILE).read_text("utf-8"))
        facts |= {name: map_plan_array(folder, name) for name in SEQUENCE_ARRAYS | SEGMENT_ARRAYS}
        ids = [
            parse_json(line)
            for line in (folder / DOCUMENT_IDS_FILE).read_text("utf-8").splitlines()
        ]
        return cls(
            folder=folder,
            document_ids=ids,
            every_token=np.memmap(folder / TOKENS_FILE, "<u4", mode="r"),
            special_ids=frozenset(facts.pop("special_ids")),
            **facts,
        )


def map_plan_array(folder: Path, name: str) -> Int[np.ndarray, "n"]:
    """One of the plan's arrays, mapped."""
    return np.load(folder / f"{name}.npy", mmap_mode="r")
