"""Pruning of call files that belong to no job: the newest are kept, because their recorded replies
make repeated questions free."""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

MAX_KEPT_FILES = 20
"""Number of call files that are kept by pruning, the newest."""
RECENT_WRITE_S = 3600.0
"""Seconds since its last write in which a call file is always kept, because another process may use
it."""


def prune_call_files(paths: Iterable[Path], kept: int = MAX_KEPT_FILES) -> list[Path]:
    """Delete old call files (logs of calls to a language model that belong to no job) with their
    journals, except the `kept` newest and those in recent use; return the files that are left,
    newest first.

    Files that another process deletes at the same time are ignored.
    """
    aged = sorted(((last_write_time(path), path) for path in paths), reverse=True)
    limit, left = time.time() - RECENT_WRITE_S, []
    for place, (when, path) in enumerate(aged):
        if place < kept or when > limit:
            left.append(path)
        else:
            delete_call_file(path)
    return left


def delete_call_file(path: Path) -> None:
    """Delete one call file with its DuckDB write-ahead log and its journal."""
    # DuckDB keeps its write-ahead log next to the file
    for one in (path, path.with_name(f"{path.name}.wal")):
        one.unlink(missing_ok=True)
    shutil.rmtree(path.with_suffix(".journal"), ignore_errors=True)


def last_write_time(path: Path) -> float:
    """Return the time of the last write to a call file, in seconds since the epoch; 0 where it does
    not exist."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
