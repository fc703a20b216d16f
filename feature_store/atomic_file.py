"""Files and folders that are there whole or not at all, whatever ends the writing.

They are written under another name beside their place, forced to disk, and renamed. A full disk,
Ctrl-C or an error removes what was begun, and an older file stays as it was.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


def write_file(path: Path, content: bytes | str, *, sync: bool = True) -> None:
    """Write a whole file (text as UTF-8), in place of an older one. Raises OSError.

    `sync=False` leaves it to the system when the content reaches the disk: for files that are
    written often and matter only while the machine runs.
    """
    data = content.encode() if isinstance(content, str) else content
    with draft_file(path, sync=sync) as draft:
        draft.write_bytes(data)


@contextmanager
def draft_file(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Give the path to write to; what lies there at the end of the block becomes `path`.

    A symbolic link stays one, and what it names is replaced; a device or pipe, such as /dev/stdout,
    is written to directly. Raises OSError. After any exception `path` is as it was.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        if target.is_dir():
            raise IsADirectoryError(21, os.strerror(21), str(path))
        yield target
        return
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(13, os.strerror(13), str(path))
    draft = target.with_name(f".saefari-{uuid4().hex}.part")
    try:
        yield draft
        if target.exists():
            shutil.copymode(target, draft)
        if sync:
            force_to_disk(draft)
        draft.replace(target)
        if sync:
            force_to_disk(target.parent)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill; at the end of the block it becomes `path`.

    `path` must not exist, or be an empty folder: else FileExistsError. Folders above it that do not
    exist are made, and removed again where the block raises.
    """
    made = [one for one in (path, *path.parents) if not one.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".saefari-{uuid4().hex}.part")
    try:
        draft.mkdir()
        yield draft
        for file in draft.rglob("*"):
            if file.is_file():
                force_to_disk(file)
        if path.is_dir():
            path.rmdir()  # only an empty one
        elif path.exists():
            raise FileExistsError(17, os.strerror(17), str(path))
        draft.rename(path)
        force_to_disk(path.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        for one in made[1:]:
            with suppress(OSError):
                one.rmdir()
        raise


def force_to_disk(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk now."""
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR
    try:
        handle = os.open(path, flags)
    except OSError:
        if path.is_dir():  # Windows opens no folders
            return
        raise
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # some file systems force no folders
            raise
    finally:
        os.close(handle)
