"""Files that are compressed as a whole: `.gz`, `.zst`, `.bz2`, `.xz` after the suffix of a kind.

A file is decompressed as it is read, never whole into memory. One that ends too early, or is not
what its name says, is an InputError: no part of a damaged file passes for all of it.
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
    import pyarrow as pa

    stream: Any = pa.input_stream(str(path), compression="zstd")
    return io.BufferedReader(stream)  # which reads lines; a stream of pyarrow's does not


OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".zst": _open_zstd,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
"""Suffix -> what opens such a file as decompressed bytes."""
MAGIC_BYTES = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"\xfd7zXZ": ".xz"}
"""The first bytes of a compressed file, which no UTF-8 text begins with -> its suffix."""


def split_suffix(path: Path) -> tuple[str, str]:
    """Return the suffix that names the kind, and that of the compression: `.jsonl`, `.gz`."""
    last = path.suffix.lower()
    if last in OPENERS:
        return Path(path.stem).suffix.lower(), last
    return last, ""


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file as decompressed bytes; InputError for one that is damaged or misnamed."""
    compression = split_suffix(path)[1]
    with path.open("rb") as file:
        start = file.read(6)
    told = next((suffix for magic, suffix in MAGIC_BYTES.items() if start.startswith(magic)), "")
    if told and not compression:
        raise InputError(
            f"{path} is compressed: rename it {path.name}{told}, so that it is read as such."
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
        ) from bad  # bz2 and pyarrow have no error of theirs


def _damage_error(path: Path, compression: str, bad: BaseException) -> InputError:
    said = " ".join(str(bad).split()).rstrip(".") or type(bad).__name__
    return InputError(
        f"{path} is damaged, or not compressed as {compression} says: {said}. Copy or download it "
        "again."
    )
