"""Files of calls that belong to no job: the newest are kept, for what they answer costs nothing."""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

MAX_KEPT_FILES = 20
"""Files that stay, the newest."""
RECENT_WRITE_S = 3600.0
"""A file written to since stays in any case: somebody may be at it."""


def prune_call_files(paths: Iterable[Path], kept: int = MAX_KEPT_FILES) -> list[Path]:
    """Delete old files of calls with all that stands beside them; gives those that are left,
    newest first. Who deletes the same ones meanwhile is no hindrance."""
    aged = sorted(((last_write_time(path), path) for path in paths), reverse=True)
    limit, left = time.time() - RECENT_WRITE_S, []
    for place, (when, path) in enumerate(aged):
        if place < kept or when > limit:
            left.append(path)
        else:
            delete_call_file(path)
    return left


def delete_call_file(path: Path) -> None:
    """One file of calls, what DuckDB had not yet put into it, and its journal."""
    for one in (path, path.with_name(f"{path.name}.wal")):
        one.unlink(missing_ok=True)
    shutil.rmtree(path.with_suffix(".journal"), ignore_errors=True)


def last_write_time(path: Path) -> float:
    """Seconds since the epoch at which it was last written to; 0 where it is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
