"""The last second of a job's calls, in files of JSON lines.

A line is with the operating system within microseconds, so that no end of the process loses it,
where a commit takes the database milliseconds. Whatever is in the database is dropped here; what an
earlier process left is read again by the next. (A power cut may take the last second.)
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from autointerp.llm.call_rows import Attempt, CallOutcome
from feature_store.strict_json import dump_json, parse_json

CallRow = Attempt | CallOutcome


class CallJournal:
    """Numbered files in one folder. Not locked: its owner sees to that."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._number = max((int(path.stem) for path in self.files()), default=0)
        self._file = None

    def files(self) -> list[Path]:
        """Those with rows that may not be in the database yet, in order."""
        return sorted(self._folder.glob("*.calls"), key=lambda path: int(path.stem))

    def write(self, row: CallRow) -> None:
        """Hand a row to the operating system. Raises OSError, as on a full disk."""
        if self._file is None:
            self._number += 1
            self._file = (self._folder / f"{self._number}.calls").open("ab", buffering=0)
        line = encode_row(row)
        if self._file.write(line) != len(line):
            raise OSError("only a part of a line could be written; the disk may be full")

    def turn(self) -> list[Path]:
        """Begin a new file; gives those whose rows are all older."""
        if self._file is not None:
            self._file.close()
            self._file = None
        return self.files()

    def left(self) -> Iterator[CallRow]:
        """The rows of the files, in order. A last line that was never finished is no row."""
        for path in self.files():
            for line in path.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    yield decode_row(line)


def encode_row(row: CallRow) -> bytes:
    """A row as a line of ASCII: no character of a text can end it."""
    *fields, time = row
    return (
        dump_json([type(row).__name__, *fields, time.isoformat()], ascii_only=True).encode() + b"\n"
    )


def decode_row(line: bytes) -> CallRow:
    """What a line says."""
    name, *fields, time = parse_json(line)
    values = [*fields, datetime.fromisoformat(time)]
    return Attempt._make(values) if name == "Attempt" else CallOutcome._make(values)


def delete_journal_files(files: list[Path]) -> None:
    """Forget files whose rows the database has."""
    for path in files:
        path.unlink(missing_ok=True)
