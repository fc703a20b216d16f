"""Recorded replies in the call logs of other jobs, so that a second job with the same questions
costs nothing. Only the hashes of their requests are kept in memory, 8 bytes each. Files are opened
read-only for a moment and closed again, since the job that owns a file may continue; a file that is
in use is skipped."""

from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import numpy as np

from autointerp.llm.call_rows import RecordedReply, find_replies, key_hash, open_call_file
from feature_store.duckdb_errors import parse_lock_holder


class OtherJobReplies:
    """Lookup of a language model's replies in the call logs of other jobs, so that equal requests
    are not asked twice. Used by one thread."""

    def __init__(self, paths: Sequence[Path], note: Callable[[str], None]) -> None:
        self._paths: list[Path] = []
        hashes: list[np.ndarray] = []
        for path in paths:
            try:
                found = read_reply_hashes(path)
            except duckdb.Error as error:
                why = "its job is running" if parse_lock_holder(error) else "it cannot be read"
                note(f"Replies of {path.stem} are not reused: {why}.")
                continue
            self._paths.append(path)
            hashes.append(found)
        every = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
        file = np.repeat(np.arange(len(hashes)), [len(part) for part in hashes])
        order = np.argsort(every, kind="stable")
        # uint16: two bytes for each reply are enough for 65,536 files
        self._hashes, self._file = every[order], file[order].astype(np.uint16)

    def __contains__(self, value: int) -> bool:
        place = int(np.searchsorted(self._hashes, np.uint64(value)))
        return place < len(self._hashes) and self._hashes[place] == np.uint64(value)

    def find(self, keys: Sequence[str]) -> dict[str, RecordedReply]:
        """Return the replies to requests that the call logs of other jobs have recorded, by request
        key; keys without a reply are absent."""
        found: dict[str, RecordedReply] = {}
        for file, wanted in self._where(keys).items():
            try:
                with open_call_file(self._paths[file], read_only=True) as db:
                    found |= find_replies(db, [key for key in wanted if key not in found])
            except duckdb.Error:  # deleted or in use: the question is asked again
                continue
        return found

    def _where(self, keys: Sequence[str]) -> dict[int, list[str]]:
        """Return which of the other jobs' call logs may have a reply to which request keys, by the
        keys' hashes: number of the file → keys."""
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
    """Return the hashes of all requests with a recorded reply in another job's call log, [replies]
    uint64; empty for a file that is no call log."""
    with open_call_file(path, read_only=True) as db:
        tables = {
            name for (name,) in db.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        }
        if "outcome" not in tables:
            return np.zeros(0, np.uint64)
        query = "SELECT DISTINCT hash FROM outcome WHERE text IS NOT NULL"
        return db.execute(query).fetchnumpy()["hash"].astype(np.uint64)
