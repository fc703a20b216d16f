"""Corpora that need no file: Python's own standard library, and the embedded demo's text."""

import os
import platform
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

from backend.corpus.documents import Corpus, Document

EXCLUDED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
"""Folders beside or inside the standard library that are other people's code, or tests."""


def stdlib_corpus() -> Corpus:
    """Each .py file of the running Python's standard library, by path, without tests.

    The name carries the version of Python, since the text differs between versions.
    """
    name = f"stdlib-{platform.python_version()}"
    return Corpus(name, lambda: _stdlib_documents(Path(sysconfig.get_path("stdlib"))), scan=False)


def _stdlib_documents(root: Path) -> Iterator[Document]:
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
    for folder, folders, names in os.walk(root):
        folders[:] = set(folders) - EXCLUDED_FOLDERS  # walks the rest only
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


def demo_corpus() -> Corpus:
    """The embedded demo's own text: generated tasks (with their templates) and library code."""
    return Corpus("demo", _demo_documents, scan=False)


def _demo_documents() -> Iterator[Document]:
    from backend.demo import demo_documents

    for id, text, template in demo_documents():
        yield Document(id, text, template)
