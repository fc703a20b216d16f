"""Files and folders are there whole or not at all: full disk, Ctrl-C, an error halfway."""

import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from feature_store.atomic_file import draft_file, draft_folder, write_file


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: what is written ends with an OSError halfway."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_full_disk_leaves_the_old_file_or_none(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "labels.json"
    if old is not None:
        path.write_bytes(old)
    with small_disk(1000), pytest.raises(OSError):
        write_file(path, b"x" * 100_000)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == (
        {} if old is None else {"labels.json": old}
    )
    write_file(path, "neu\u00df")
    assert path.read_text("utf-8") == "neu\u00df" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("fail", [interrupt, lambda: 1 / 0])
def test_an_interrupted_writer_leaves_no_trace(tmp_path: Path, fail: Callable[[], object]) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises((KeyboardInterrupt, ZeroDivisionError)), draft_file(path) as draft:
        draft.write_text("half")
        fail()
    with pytest.raises((KeyboardInterrupt, ZeroDivisionError)):  # noqa: SIM117
        with draft_folder(tmp_path / "x" / "y") as draft:
            (draft / "part").write_text("half")
            fail()
    assert [one.name for one in tmp_path.iterdir()] == ["a"] and path.read_text() == "old"


def test_links_modes_and_devices_stay_what_they_are(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_file(link, "new")
    assert link.is_symlink() and target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    write_file(Path(os.devnull), "nothing")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path, "a folder")
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "no" / "a", "")


def test_a_folder_appears_whole_and_never_over_another(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    with draft_folder(path) as draft:
        (draft / "one").write_text("1")
        assert not path.exists()
    assert [one.name for one in path.iterdir()] == ["one"]
    with pytest.raises(OSError), draft_folder(path) as draft:
        (draft / "two").write_text("2")
    assert [one.name for one in path.iterdir()] == ["one"]
    assert [one.name for one in path.parent.iterdir()] == ["b"]
