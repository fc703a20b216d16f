"""Built-in corpora that need no file: Python's standard library, and the text of the embedded
demo."""

import os
import platform
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

from backend.corpus.documents import Corpus, Document

EXCLUDED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
"""Folders next to or inside the standard library that hold other packages or tests, left out of the
corpus."""


def stdlib_corpus() -> Corpus:
    """Return the corpus `stdlib`: every .py file of the running Python's standard library, ordered
    by path, without tests.

    Its name includes the Python version, since the text differs between versions.
    """
    name = f"stdlib-{platform.python_version()}"
    return Corpus(name, lambda: _stdlib_documents(Path(sysconfig.get_path("stdlib"))), scan=False)


def _stdlib_documents(root: Path) -> Iterator[Document]:
    """Yield the Python files of the standard library as documents, skipping those that cannot be
    decoded."""
    for part, path in sorted(
        (path.relative_to(root).as_posix(), path) for path in _library_files(root)
    ):
        try:
            with tokenize.open(path) as source:  # honours a coding cookie
                text = source.read()
        except (SyntaxError, UnicodeDecodeError):  # a few fixtures are broken on purpose
            continue
        yield Document(f"stdlib/{part}", text)


def _library_files(root: Path) -> Iterator[Path]:
    """Yield the .py files of the standard library below a folder, without the excluded folders."""
    for folder, folders, names in os.walk(root):
        folders[:] = set(folders) - EXCLUDED_FOLDERS  # os.walk then descends into the others only
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


def demo_corpus() -> Corpus:
    """Return the corpus `demo`: the embedded demo's generated stories, with their templates, and
    standard-library code."""
    return Corpus("demo", _demo_documents, scan=False)


def _demo_documents() -> Iterator[Document]:
    """Yield the embedded demo's texts as documents of a corpus."""
    from backend.demo import demo_documents

    for id, text, template in demo_documents():
        yield Document(id, text, template)
