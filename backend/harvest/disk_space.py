"""A full disk, said in one sentence: three libraries write here, each with its own error."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from safetensors import SafetensorError

from feature_store.errors import InputError

FULL_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SPILL_LIMIT = "max_temp_directory_size"
"""DuckDB keeps its spilled blocks below what the disk has left, and names this setting then."""


@contextmanager
def explain_full_disk(store: Path) -> Iterator[None]:
    """InputError when a write in the block fails for want of room; all else passes unchanged."""
    try:
        yield
    except (OSError, SafetensorError, duckdb.Error) as error:
        if (reason := full_disk_reason(error)) is None:
            raise
        raise InputError(
            f"The disk that holds {store} has no room left ({reason}). Make room and run the same "
            "command again: it goes on from what is already there."
        ) from error


def full_disk_reason(error: Exception) -> str | None:
    """What the system said if `error` is about a full disk, a quota or a size limit, else None."""
    if isinstance(error, OSError):
        return error.strerror if error.errno in FULL_DISK_ERRNOS else None
    for number in FULL_DISK_ERRNOS:
        if os.strerror(number) in str(error):
            return os.strerror(number)
    return os.strerror(errno.ENOSPC) if SPILL_LIMIT in str(error) else None
