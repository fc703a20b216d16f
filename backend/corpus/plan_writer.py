"""Plan writer: writes a plan of sequences to its folder, the tokens while the sequences come, then
the arrays, document ids and plan.json, the last of them atomically."""

import hashlib
from array import array
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from backend.corpus.sequence_layout import SequenceDraft, SequenceSegment
from backend.corpus.sequence_plan import (
    DOCUMENT_IDS_FILE,
    PLAN_FILE,
    SEGMENT_ARRAYS,
    SEQUENCE_ARRAYS,
    TOKENS_FILE,
)
from backend.corpus.token_file import SpecialTokens
from feature_store.strict_json import dump_json


class PlanWriter:
    """Writer of a sequence plan: appends sequences to `folder` until they hold `budget` counted
    tokens, never more."""

    def __init__(self, folder: Path, specials: SpecialTokens, budget: int) -> None:
        self.left = budget
        """Counted tokens that the plan may still take."""
        self.documents: set[int] = set()
        self.counted = [0, 0]
        """Counted tokens of each split written so far."""
        self._folder = folder
        self._specials = specials
        self._columns = {name: array("q") for name in SEQUENCE_ARRAYS | SEGMENT_ARRAYS}
        self._digest = hashlib.sha256()
        self._position = 0
        self._file = (folder / TOKENS_FILE).open("wb")

    def __enter__(self) -> "PlanWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, draft: SequenceDraft) -> None:
        """Write a drafted sequence to the plan, cut where the token budget ends; a sequence without
        a counted token is left out."""
        segments = self._within_budget(draft)
        if not segments:
            return
        front = [] if self._specials.bos is None else [self._specials.bos]
        parts = [np.array(front, np.uint32), *(segment.tokens for segment in segments)]
        data = np.concatenate(parts).astype("<u4")
        self._note(segments, draft.side, len(data), len(front))
        self._file.write(data.tobytes())
        self._digest.update(data.tobytes())
        self._position += len(data)

    def _within_budget(self, draft: SequenceDraft) -> list[SequenceSegment]:
        """Return the segments of a drafted sequence, cut so that the plan's token budget is not
        exceeded; empty where the budget is used up."""
        segments = []
        before = self.left
        for segment in draft.segments:
            if self.left == 0:
                break
            n_counted = np.cumsum(self._specials.counted(segment.tokens))
            stop = (
                int(np.searchsorted(n_counted, self.left)) + 1
            )  # up to the last token that is needed
            segments.append(SequenceSegment(segment.document, segment.start, segment.tokens[:stop]))
            self.left -= int(n_counted[min(stop, len(n_counted)) - 1])
        self.counted[draft.side] += before - self.left
        return segments if self.left < before else []

    def _note(self, segments: list[SequenceSegment], side: int, length: int, position: int) -> None:
        """Add a written sequence and its segments to the sequence plan's arrays: document, start,
        length, split and position in the token file."""
        first = segments[0]
        number = len(self._columns["length"])
        row = (first.document, first.start, length, side, self._position)
        self._append(SEQUENCE_ARRAYS, row)
        for segment in segments:
            self._append(SEGMENT_ARRAYS, (number, position, segment.document, segment.start))
            position += len(segment.tokens)
            self.documents.add(segment.document)

    def _append(self, names: dict[str, str], row: tuple[int, ...]) -> None:
        """Append one row to the sequence plan's arrays of the given names, one value to each
        array."""
        for name, value in zip(names, row, strict=True):
            self._columns[name].append(value)

    def finish(self, ids: list[str], facts: dict[str, Any]) -> None:
        """Write the plan's arrays, document ids and plan.json. The plan counts as complete once
        plan.json exists."""
        self._file.flush()
        for name, kind in (SEQUENCE_ARRAYS | SEGMENT_ARRAYS).items():
            column = np.array(self._columns[name], kind)
            np.save(self._folder / f"{name}.npy", column)
            self._digest.update(column.tobytes())
        used = ids[: max(self.documents, default=-1) + 1]
        lines = "".join(dump_json(id, ascii_only=True) + "\n" for id in used)
        (self._folder / DOCUMENT_IDS_FILE).write_text(lines, "utf-8")
        self._digest.update(lines.encode())
        all_facts = facts | {"n_documents": len(self.documents), "digest": self._digest.hexdigest()}
        unfinished = self._folder / f"{PLAN_FILE}.part"
        unfinished.write_text(
            dump_json(all_facts, indent=2, sort_keys=True, ascii_only=True), "utf-8"
        )
        unfinished.replace(self._folder / PLAN_FILE)
