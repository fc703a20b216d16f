"""Where things lie on the machine of a store's owner: what visitors are not to read."""

import os
import re
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def hide_paths(text: str, paths: Iterable[str]) -> str:
    """Return `text` with each of these absolute paths shortened to its last part.

    What lies beneath such a path keeps the rest of its own: `FOLDER/store/jobs` becomes
    `store/jobs`.
    """
    for path in paths:
        if path in text:  # and not as the end of an address or of another path
            last = re.split(r"[/\\]", path.rstrip("/\\"))[-1] + path[len(path.rstrip("/\\")) :]
            text = re.sub(rf"(?<![\w.-]){re.escape(path)}", lambda _, last=last: last, text)
    return text


def private_paths(*of: Path | str) -> list[str]:
    """Return the absolute paths to hide, the longest first: those given, and this process's own.

    Each as it is written and with its links resolved. The root is no secret; the name of a folder
    right beneath it counts only with a slash behind it, since it stands in other texts, too.
    """
    given = [str(Path(path).absolute()) for path in of]
    found = {*given, *map(os.path.realpath, given), *_paths_of_this_process()}
    parts = {path: len(Path(path).parts) for path in found}
    kept = [path if n > 2 else path + os.sep for path, n in parts.items() if n > 1]
    return sorted(kept, key=len, reverse=True)


@cache
def _paths_of_this_process() -> frozenset[str]:
    """Return the folders from which this process runs, as it can name them."""
    ours = Path(__file__).resolve().parents[1]
    folders = [Path.home(), Path.cwd(), Path(tempfile.gettempdir()), Path(sys.prefix), ours]
    return frozenset(str(path) for one in folders for path in (one, one.resolve()))
