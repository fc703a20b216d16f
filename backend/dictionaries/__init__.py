"""Sparse dictionaries: SAEs, transcoders, direction matrices and MLP neurons, loaded from every
checkpoint format that Saefari reads.

Importing this package imports neither torch nor sae-lens: `load` imports them when it is first
used.
"""

from typing import TYPE_CHECKING, Any

from backend.dictionaries.dictionary_sources import check_source, expand_folders, parse_spec

if TYPE_CHECKING:
    from backend.dictionaries.base import Dictionary, Triples
    from backend.dictionaries.dictionary_loader import load

__all__ = ["Dictionary", "Triples", "check_source", "expand_folders", "load", "parse_spec"]

_LATE = {
    "Dictionary": "backend.dictionaries.base",
    "Triples": "backend.dictionaries.base",
    "load": "backend.dictionaries.dictionary_loader",
}


def __getattr__(name: str) -> Any:  # PEP 562
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LATE[name]), name)
