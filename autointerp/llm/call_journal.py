"""Journal of the call log: the rows of the last second as JSON lines. The operating system has a
line within microseconds, so that no end of the process loses it, while a commit of the database
takes milliseconds. Journal files are deleted once the database has their rows; the next process
reads what an earlier one left. A power failure may lose the last second."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from autointerp.llm.call_rows import CallAttempt, CallOutcome
from feature_store.strict_json import dump_json, parse_json

CallRow = CallAttempt | CallOutcome


class CallJournal:
    """Journal of a call log: numbered files of JSON lines in one folder, with the rows that the
    log's database does not have yet. They are not locked: the call log that owns the folder makes
    sure that there is one writer."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._number = max((int(path.stem) for path in self.files()), default=0)
        self._file = None

    def files(self) -> list[Path]:
        """Return the journal files with rows that the database may not have yet, in order."""
        return sorted(self._folder.glob("*.calls"), key=lambda path: int(path.stem))

    def write(self, row: CallRow) -> None:
        """Append a row to the journal. Raises OSError where it cannot be written, as on a full
        disk."""
        if self._file is None:
            self._number += 1
            self._file = (self._folder / f"{self._number}.calls").open("ab", buffering=0)
        line = encode_row(row)
        if self._file.write(line) != len(line):
            raise OSError("only a part of a line could be written; the disk may be full")

    def begin_file(self) -> list[Path]:
        """End the current journal file, so that the next row begins a new one; return all journal
        files so far, to be deleted once the database has their rows."""
        if self._file is not None:
            self._file.close()
            self._file = None
        return self.files()

    def read_rows(self) -> Iterator[CallRow]:
        """Yield the rows of all journal files in order. An incomplete last line is skipped."""
        for path in self.files():
            for line in path.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    yield decode_row(line)


def encode_row(row: CallRow) -> bytes:
    """Return a call log row as one line of ASCII JSON for the journal; no character of its texts
    can end the line."""
    *fields, time = row
    # fixed tags, so that journals of earlier versions can be read
    tag = "Attempt" if isinstance(row, CallAttempt) else "Outcome"
    return dump_json([tag, *fields, time.isoformat()], ascii_only=True).encode() + b"\n"


def decode_row(line: bytes) -> CallRow:
    """Return the call log row that a line of the journal contains."""
    name, *fields, time = parse_json(line)
    values = [*fields, datetime.fromisoformat(time)]
    return CallAttempt._make(values) if name == "Attempt" else CallOutcome._make(values)


def delete_journal_files(files: list[Path]) -> None:
    """Delete journal files whose rows the database has."""
    for path in files:
        path.unlink(missing_ok=True)
