"""Sequence plan: a folder that holds exactly the token sequences that a model is fed.

`tokens.bin` holds the token ids of all sequences one after the other (uint32, little-endian, BOS
included, no padding); the .npy files hold one number per sequence or segment; `documents.jsonl` the
document ids; `plan.json`, written last, everything else. The same inputs give the same bytes.
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
    """Sequence plan: all token sequences that a harvest feeds to the model, memory-mapped from
    `folder`."""

    folder: Path
    document: Int32[np.ndarray, "sequences"]
    """Index into `document_ids` of the (first) document of each sequence."""
    start: Int32[np.ndarray, "sequences"]
    """Token of that document at which the sequence begins."""
    length: Int32[np.ndarray, "sequences"]
    """Number of tokens of each sequence that are fed, BOS included."""
    split: UInt8[np.ndarray, "sequences"]
    """Split of each sequence: 0 explain, 1 score."""
    offset: Int64[np.ndarray, "sequences"]
    """Offset of each sequence in tokens.bin, in tokens."""
    segment_sequence: Int32[np.ndarray, "segments"]
    segment_position: Int32[np.ndarray, "segments"]
    """Position in its sequence at which a document's segment begins, BOS counted."""
    segment_document: Int32[np.ndarray, "segments"]
    segment_start: Int32[np.ndarray, "segments"]
    """Token of the document at which the segment begins; the four segment arrays have one entry per
    segment."""
    document_ids: list[str]
    warnings: list[str]
    """Sentences for the user about what the splits, packing or the corpus's size mean for the
    result."""
    n_tokens: int
    """Counted tokens of the plan, without BOS and special tokens."""
    n_documents: int
    """Documents of which at least one sequence holds a part."""
    bos: int | None
    special_ids: frozenset[int]
    """Ids of all tokens that are not counted, BOS among them."""
    context_size: int
    packed: bool
    corpus: str
    digest: str
    """SHA-256 of the plan's tokens, arrays and document ids: equal for equal content."""
    every_token: UInt32[np.ndarray, "tokens"]
    """Token ids of all sequences one after the other: tokens.bin, memory-mapped."""

    @property
    def n_sequences(self) -> int:
        """Number of sequences in the plan."""
        return len(self.length)

    def tokens(self, i: int) -> UInt32[np.ndarray, "length"]:
        """Return the token ids of sequence `i` of the plan, BOS included, as a view into the mapped
        file."""
        start = int(self.offset[i])
        return self.every_token[start : start + int(self.length[i])]

    @classmethod
    def complete(cls, folder: Path) -> bool:
        """Return whether `folder` holds a sequence plan that was written completely."""
        return (folder / PLAN_FILE).is_file()

    @classmethod
    def load(cls, folder: Path) -> "SequencePlan":
        """Load the sequence plan in `folder`. Raises InputError where there is none, or it is
        incomplete."""
        if not cls.complete(folder):
            raise InputError(
                f"{str(folder)!r} contains no complete sequence plan; run the harvest again."
            )
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
    """Return one of the sequence plan's arrays, memory-mapped."""
    return np.load(folder / f"{name}.npy", mmap_mode="r")
