"""A full disk: one sentence, nothing lost, and the same command goes on."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from safetensors import SafetensorError

from backend.harvest.disk_space import explain_full_disk
from feature_store.errors import InputError
from tests.harvests import Rig, assert_same, content, published, small_steps


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The kernel refuses writes beyond `size` bytes of a file, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_at_every_stage_is_a_sentence_and_the_harvest_goes_on(
    rig: Rig, harvested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While planning, at a checkpoint, while publishing; then there is room."""
    small_steps(monkeypatch, 30_000, 6000)
    stages = []
    for size in (2000, 60_000, 900_000, 1_500_000):
        one = rig.start(tmp_path)
        with pytest.raises(InputError) as error, no_file_above(size):
            for step in one.run():
                stage = step.stage
        stages.append(stage)
        assert str(error.value) == (
            f"The disk that holds {tmp_path} is full (File too large). Free some space and "
            "run the same command again: it resumes from what is already there."
        )
        assert not list((tmp_path / "harvests").iterdir())
    assert stages == ["read corpus", "harvest", "write", "write"]
    last = rig.start(tmp_path)
    steps = list(last.run())
    assert not [step for step in steps if step.stage in ("harvest", "self-check")]
    assert_same(content(published(last)), content(harvested))


FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, FULL),
        OSError(errno.EDQUOT, FULL),
        SafetensorError(f"Error while serializing: I/O error: {FULL} (os error 28)"),
        duckdb.IOException(f'IO Error: Could not write file "a.tmp": {FULL}'),
        duckdb.OutOfMemoryException("failed to offload data block … the 'max_temp_directory_size'"),
    ],
)
def test_every_librarys_way_of_saying_so(error: Exception, tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=f"is full \\({FULL}\\)"),
        explain_full_disk(tmp_path),
    ):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EACCES, "Permission denied"),
        SafetensorError("InvalidHeader"),
        duckdb.CatalogException("no table"),
        ZeroDivisionError(),
        InputError("other"),
    ],
)
def test_other_errors_pass_unchanged(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as seen, explain_full_disk(tmp_path):
        raise error
    assert seen.value is error
