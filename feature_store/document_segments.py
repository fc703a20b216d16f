"""Document segments: which part of which sequence belongs to a document, in packed and unpacked
harvests."""

from typing import NamedTuple

from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile


class DocumentSegment(NamedTuple):
    """Part of a token sequence that belongs to one document; a packed sequence holds segments of
    several documents."""

    sequence: int
    document: int
    begin: int
    """Position of the segment's first token in the sequence; `end` is the position after its
    last token."""
    end: int


def check_sequence(file: HarvestFile, sequence: int) -> int:
    """Return the number `sequence` if the harvest has a token sequence of that number; otherwise
    raise InputError with the range of numbers."""
    if not 0 <= sequence < len(file.sequences):
        raise InputError(
            f"There is no sequence {sequence}: harvest {file.record.id} has sequences 0 to "
            f"{len(file.sequences) - 1}."
        )
    return sequence


def list_sequence_segments(file: HarvestFile, sequence: int) -> list[DocumentSegment]:
    """Return the document segments of a token sequence in order; only one unless the harvest is
    packed (several documents in one sequence)."""
    length = len(file.sequences.tokens(sequence))
    if not file.record.packed:
        return [DocumentSegment(sequence, int(file.sequences.document[sequence]), 0, length)]
    row = file.rows(
        "SELECT documents, borders FROM sequence WHERE sequence = ?", [sequence]
    ).to_pylist()[0]
    begins: list[int] = row["borders"]
    ends = [*begins[1:], length]
    return [
        DocumentSegment(sequence, *one) for one in zip(row["documents"], begins, ends, strict=True)
    ]


def find_segment(file: HarvestFile, sequence: int, position: int) -> DocumentSegment:
    """Return the document segment that contains a position of a token sequence; for a BOS token
    before the first document, that document's segment."""
    found = list_sequence_segments(file, sequence)
    return max((one for one in found if one.begin <= position), default=found[0])


def list_document_segments(file: HarvestFile, document: int) -> list[DocumentSegment]:
    """Return all segments of a document in the order in which the model read them."""
    if file.record.packed:
        query = "SELECT sequence FROM sequence WHERE list_contains(documents, ?) ORDER BY sequence"
    else:
        query = "SELECT sequence FROM sequence WHERE document = ? ORDER BY sequence"
    sequences = file.rows(query, [document]).column("sequence").to_pylist()
    found = [one for sequence in sequences for one in list_sequence_segments(file, sequence)]
    return [one for one in found if one.document == document]
