"""Progress log of a job: one JSON line per processed feature in `features.jsonl`, so that a resumed
job need not query the catalog.

A line is written after the catalog has the feature's results. An end at any moment therefore has
features processed at worst once more, from recorded replies.
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
"""Name of the progress log file in the job's folder."""
UNSTORABLE_ERRORS = (
    ValueError,
    TypeError,
    OverflowError,
    duckdb.DataError,
    duckdb.InvalidInputException,
    duckdb.ConversionException,
    pa.ArrowException,
)
"""Exceptions that a store raises for a record that it cannot hold, such as a text that is not valid
Unicode."""
LogEntry = Mapping[str, Any]
"""Entry of the progress log: `feature`; then `skipped` with a reason, or the results of the kind of
job; `failed` is the number of questions without an answer, 0 or absent for none."""


class ProgressLog:
    """The progress log of one job: a file with an entry for each processed feature, by which a
    resumed job knows what is left. Used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG_NAME
        if self.path.exists():
            cut_unfinished_line(self.path)

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield all entries of the progress log, in order; of a feature processed twice the later
        entry is valid."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                yield parse_json(line)

    def add(self, entries: Iterable[LogEntry]) -> None:
        """Append entries to the progress log. Raises OSError where the disk is full."""
        text = "".join(dump_json(entry, compact=True) + "\n" for entry in entries)
        with self.path.open("ab", buffering=0) as file:
            if file.write(text.encode()) != len(text.encode()):
                raise OSError("only a part of a line could be written; the disk may be full")

    def failed(self) -> list[int]:
        """Return the indices of the features, sorted, whose latest entry in the progress log has a
        question without an answer."""
        last = {entry["feature"]: bool(entry.get("failed")) for entry in self.entries()}
        return sorted(feature for feature, bad in last.items() if bad)


@contextmanager
def report_disk_errors() -> Iterator[None]:
    """Raise InputError where a job cannot write its progress log or results to the disk at all, as
    on a full disk.

    Errors of the records themselves (UNSTORABLE_ERRORS) are raised unchanged.
    """
    try:
        yield
    except UNSTORABLE_ERRORS:
        raise
    except (OSError, duckdb.Error) as error:
        raise InputError(
            f"Results cannot be written to the store: {shorten_line(str(error))}. Results "
            "written before are kept; free disk space, then resume the job."
        ) from error


def cut_unfinished_line(path: Path) -> None:
    """Remove an incomplete last line from the progress log."""
    with path.open("rb+") as file:
        size = file.seek(0, 2)
        step = min(size, 1 << 20)
        file.seek(size - step)
        # the last line break ends the last complete entry
        end = file.read(step).rfind(b"\n")
        file.truncate(size - step + end + 1)
