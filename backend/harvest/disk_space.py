"""Disk space: turns the errors of a full disk, which three libraries raise in three ways, into one
sentence for the user."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from safetensors import SafetensorError

from feature_store.errors import InputError

FULL_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, an exceeded quota and a file size limit."""
SPILL_LIMIT = "max_temp_directory_size"
"""DuckDB setting that its error names when the disk has no space left for spilled blocks."""


@contextmanager
def explain_full_disk(store: Path) -> Iterator[None]:
    """Raise InputError where a write inside this context fails because the disk of the store is
    full; other errors pass unchanged."""
    try:
        yield
    except (OSError, SafetensorError, duckdb.Error) as error:
        if (reason := full_disk_reason(error)) is None:
            raise
        raise InputError(
            f"The disk that holds {store} is full ({reason}). Free some space and run the same "
            "command again: it resumes from what is already there."
        ) from error


def full_disk_reason(error: Exception) -> str | None:
    """Return the system's message where `error` is about a full disk, a quota or a file size
    limit, else None."""
    if isinstance(error, OSError):
        return error.strerror if error.errno in FULL_DISK_ERRNOS else None
    for number in FULL_DISK_ERRNOS:
        if os.strerror(number) in str(error):
            return os.strerror(number)
    return os.strerror(errno.ENOSPC) if SPILL_LIMIT in str(error) else None
