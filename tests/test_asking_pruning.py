"""Files of calls without a job: the newest and those in use stay, nothing is left of others."""

import os
import time
from pathlib import Path

import pytest

from autointerp.llm import CallLog
from autointerp.llm.call_file_pruning import RECENT_WRITE_S, prune_call_files


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Five, oldest first, each with a log and a journal; the last two were written just now."""
    found = []
    for i in range(5):
        path = tmp_path / f"judge-{i}.duckdb"
        CallLog(path).close()
        path.with_name(f"{path.name}.wal").touch()
        path.with_suffix(".journal").mkdir(exist_ok=True)
        (path.with_suffix(".journal") / "1.calls").touch()
        if i < 3:
            old = time.time() - RECENT_WRITE_S - 100 + i
            os.utime(path, (old, old))
        found.append(path)
    return found


def test_old_files_go_with_all_that_is_beside_them(files: list[Path]) -> None:
    assert prune_call_files(files, 3) == files[:1:-1]
    names = {path.name for path in files[0].parent.iterdir()}
    assert not [name for name in names if name.startswith(("judge-0", "judge-1"))]
    assert len(names) == 9


def test_what_is_young_stays_however_many_there_are(files: list[Path]) -> None:
    assert (
        sorted(prune_call_files(files, 0)) == files[3:]
        and sorted(prune_call_files([*files], 0)) == files[3:]
    )
