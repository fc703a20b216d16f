"""Replies in the files of other jobs, so that a second run of the same questions costs nothing.

Of each file only the hashes of its requests are held, 8 bytes each. A file is opened read-only for
a moment and let go, for the job that owns it may go on; one that its job holds is left out.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import numpy as np

from autointerp.llm.call_rows import RecordedReply, find_replies, key_hash, open_call_file
from feature_store.duckdb_errors import parse_lock_holder


class OtherJobReplies:
    """The replies of other jobs. Used by one thread."""

    def __init__(self, paths: Sequence[Path], note: Callable[[str], None]) -> None:
        self._paths: list[Path] = []
        hashes: list[np.ndarray] = []
        for path in paths:
            try:
                found = read_reply_hashes(path)
            except duckdb.Error as error:
                why = "its job is at work" if parse_lock_holder(error) else "it cannot be read"
                note(f"Replies of {path.stem} are not reused: {why}.")
                continue
            self._paths.append(path)
            hashes.append(found)
        every = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
        file = np.repeat(np.arange(len(hashes)), [len(part) for part in hashes])
        order = np.argsort(every, kind="stable")
        self._hashes, self._file = every[order], file[order].astype(np.uint16)

    def __contains__(self, value: int) -> bool:
        place = int(np.searchsorted(self._hashes, np.uint64(value)))
        return place < len(self._hashes) and self._hashes[place] == np.uint64(value)

    def find(self, keys: Sequence[str]) -> dict[str, RecordedReply]:
        """Recorded replies by key."""
        found: dict[str, RecordedReply] = {}
        for file, wanted in self._where(keys).items():
            try:
                with open_call_file(self._paths[file], read_only=True) as db:
                    found |= find_replies(db, [key for key in wanted if key not in found])
            except duckdb.Error:  # deleted, or its job goes on: the question is asked once more
                continue
        return found

    def _where(self, keys: Sequence[str]) -> dict[int, list[str]]:
        """Which files may have which keys."""
        files: dict[int, list[str]] = {}
        if not len(self._hashes):
            return files
        wanted = np.array([key_hash(key) for key in keys], np.uint64)
        low = np.searchsorted(self._hashes, wanted, "left")
        high = np.searchsorted(self._hashes, wanted, "right")
        for key, first, end in zip(keys, low, high, strict=True):
            for file in set(self._file[first:end].tolist()):
                files.setdefault(file, []).append(key)
        return files


def read_reply_hashes(path: Path) -> np.ndarray:
    """[replies] uint64 of a file of calls; none of a file of something else."""
    with open_call_file(path, read_only=True) as db:
        tables = {
            name for (name,) in db.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        }
        if "outcome" not in tables:
            return np.zeros(0, np.uint64)
        query = "SELECT DISTINCT hash FROM outcome WHERE text IS NOT NULL"
        return db.execute(query).fetchnumpy()["hash"].astype(np.uint64)
