"""Private paths: hide where files lie on the machine of a store's owner in texts that visitors
see."""

import os
import re
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def hide_paths(text: str, paths: Iterable[str]) -> str:
    """Return `text` with each of these private paths shortened to its last part.

    Paths inside such a folder keep their relative part: `FOLDER/store/jobs` becomes `store/jobs`.
    """
    for path in paths:
        if path in text:  # and not as the end of an address or of another path
            last = re.split(r"[/\\]", path.rstrip("/\\"))[-1] + path[len(path.rstrip("/\\")) :]
            text = re.sub(rf"(?<![\w.-]){re.escape(path)}", lambda _, last=last: last, text)
    return text


def private_paths(*paths: Path | str) -> list[str]:
    """Return the private absolute paths to hide, longest first: the given ones and those of this
    process.

    Each path is listed as written and with symbolic links resolved. The root is not private; the
    name of a folder directly below it is matched only with a trailing slash, because such a word
    occurs in other texts too.
    """
    given = [str(Path(path).absolute()) for path in paths]
    found = {*given, *map(os.path.realpath, given), *_paths_of_this_process()}
    parts = {path: len(Path(path).parts) for path in found}
    kept = [path if n > 2 else path + os.sep for path, n in parts.items() if n > 1]
    return sorted(kept, key=len, reverse=True)


@cache
def _paths_of_this_process() -> frozenset[str]:
    """Return the private paths of this process: home, working, temporary, Python's and Saefari's
    folders."""
    ours = Path(__file__).resolve().parents[1]
    folders = [Path.home(), Path.cwd(), Path(tempfile.gettempdir()), Path(sys.prefix), ours]
    return frozenset(str(path) for one in folders for path in (one, one.resolve()))
