"""What a job has done, a line a feature, beside what it found: the catalog is not asked again.

A line is written after the catalog has what it speaks of. So an end at any moment has features done
once more at worst, from recorded replies.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from autointerp.llm.call_rows import shorten_line
from feature_store.errors import InputError
from feature_store.strict_json import dump_json, parse_json

LOG_NAME = "features.jsonl"
"""In the job's folder."""
UNSTORABLE_ERRORS = (
    ValueError,
    TypeError,
    OverflowError,
    duckdb.DataError,
    duckdb.InvalidInputException,
    duckdb.ConversionException,
    pa.ArrowException,
)
"""What a store raises for a record that it cannot hold, such as a text that is no Unicode."""
LogEntry = Mapping[str, Any]
"""`feature`; then `skipped`: a reason, or what the kind of job found; `failed`: how much of it was
not answered, 0 or absent for nothing."""


class ProgressLog:
    """One job's lines. Used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG_NAME
        if self.path.exists():
            cut_unfinished_line(self.path)

    def entries(self) -> Iterator[dict[str, Any]]:
        """All lines, in order: of a feature done twice the later one holds."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                yield parse_json(line)

    def add(self, entries: Iterable[LogEntry]) -> None:
        """Append lines. Raises OSError where the disk is full."""
        text = "".join(dump_json(entry, compact=True) + "\n" for entry in entries)
        with self.path.open("ab", buffering=0) as file:
            if file.write(text.encode()) != len(text.encode()):
                raise OSError("only a part of a line could be written; the disk may be full")

    def failed(self) -> list[int]:
        """Features of which something was not answered."""
        last = {entry["feature"]: bool(entry.get("failed")) for entry in self.entries()}
        return sorted(feature for feature, bad in last.items() if bad)


@contextmanager
def report_disk_errors() -> Iterator[None]:
    """Raise InputError for what keeps this block from writing anything, such as a full disk.

    What is wrong with the records themselves (`UNSTORABLE`) is raised as it is.
    """
    try:
        yield
    except UNSTORABLE_ERRORS:
        raise
    except (OSError, duckdb.Error) as error:
        raise InputError(
            f"What was found cannot be written to the store: {shorten_line(str(error))}. What was "
            "written before is kept; make room, and let the job go on."
        ) from error


def cut_unfinished_line(path: Path) -> None:
    """Cut off a last line that was never finished."""
    with path.open("rb+") as file:
        size = file.seek(0, 2)
        step = min(size, 1 << 20)
        file.seek(size - step)
        end = file.read(step).rfind(b"\n")
        file.truncate(size - step + end + 1)
