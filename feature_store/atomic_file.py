"""Atomic writes of files and folders: each is either complete at its final path or not there at
all.

Content is written under a temporary name in the same folder, forced to disk and renamed. A full
disk, Ctrl-C or an error removes the temporary file, and an older file at the path stays as it was.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


def write_file(path: Path, content: bytes | str, *, sync: bool = True) -> None:
    """Write a complete file atomically (text as UTF-8), replacing an older one. Raises OSError.

    `sync=False` does not force the content to disk: for files that are written often and matter
    only while the machine runs.
    """
    data = content.encode() if isinstance(content, str) else content
    with draft_file(path, sync=sync) as draft:
        draft.write_bytes(data)


@contextmanager
def draft_file(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; when the block ends, that file is renamed to `path`.

    A symbolic link stays a link and its target is replaced; a device or pipe, such as /dev/stdout,
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
    """Yield an empty temporary folder to fill; when the block ends, it is renamed to `path`.

    `path` must not exist or be an empty folder, otherwise FileExistsError is raised. Missing parent
    folders are made, and removed again if the block raises.
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
    """Force a written file, or a folder's list of names, from the system's buffers to the disk
    (fsync)."""
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
