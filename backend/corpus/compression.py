"""Compressed corpus files: `.gz`, `.zst`, `.bz2` and `.xz` after the suffix of a file format.

A file is decompressed while it is read, never completely in memory. A file that ends too early, or
is not compressed as its name says, raises InputError.
"""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from feature_store.errors import InputError


def _open_zstd(path: Path) -> Any:
    """Open a `.zst` file as a buffered stream of decompressed bytes."""
    import pyarrow as pa

    stream: Any = pa.input_stream(str(path), compression="zstd")
    return io.BufferedReader(stream)  # a pyarrow stream does not read lines


OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".zst": _open_zstd,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
"""Function that opens a compressed file as decompressed bytes, by suffix."""
MAGIC_BYTES = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"\xfd7zXZ": ".xz"}
"""First bytes of a compressed file, which no UTF-8 text begins with, and the suffix that they
belong to."""


def split_suffix(path: Path) -> tuple[str, str]:
    """Return the suffix of a file's format and that of its compression, such as `.jsonl` and `.gz`;
    the second is empty for a file that is not compressed."""
    last = path.suffix.lower()
    if last in OPENERS:
        return Path(path.stem).suffix.lower(), last
    return last, ""


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file as decompressed bytes. Raises InputError where the compressed file is damaged or
    misnamed."""
    compression = split_suffix(path)[1]
    with path.open("rb") as file:
        start = file.read(6)
    detected = next(
        (suffix for magic, suffix in MAGIC_BYTES.items() if start.startswith(magic)), ""
    )
    if detected and not compression:
        raise InputError(
            f"{path} is compressed: rename it {path.name}{detected}, so that it is decompressed."
        )
    try:
        with OPENERS[compression](path) if compression else path.open("rb") as opened:
            yield opened
    except (gzip.BadGzipFile, EOFError, lzma.LZMAError, zlib.error) as bad:
        raise _damage_error(path, compression, bad) from bad
    except (OSError, ValueError) as bad:
        if isinstance(bad, InputError) or not compression:
            raise
        raise _damage_error(
            path, compression, bad
        ) from bad  # bz2 and pyarrow have no error class of their own


def _damage_error(path: Path, compression: str, bad: BaseException) -> InputError:
    """Return the InputError for a compressed file that cannot be decompressed."""
    reason = " ".join(str(bad).split()).rstrip(".") or type(bad).__name__
    return InputError(
        f"{path} is damaged or is not a {compression} file: {reason}. Copy or download it again."
    )
