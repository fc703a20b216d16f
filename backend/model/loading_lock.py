"""Lock under which a process loads one model at a time, and which restores the global state that
transformers changes.

While transformers builds a model it replaces functions of its own and of torch for the whole
process (`PreTrainedModel.tie_weights`, `PreTrainedModel.init_weights`, the functions of
`torch.nn.init`, `torch.linspace`) and sets torch's default dtype. Each of its context managers
restores what it found. Two loads that overlap therefore restore each other's replacement, and from
then on no model in the process has its weights tied.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel, initialization

_LOADING_LOCK = threading.RLock()


def _list_patched_globals() -> list[tuple[Any, str, Any]]:
    """Return (owner, attribute, value) of every function that transformers replaces while it loads
    a model."""
    patched: list[tuple[Any, str, Any]] = [
        (PreTrainedModel, "tie_weights", PreTrainedModel.tie_weights),
        (PreTrainedModel, "init_weights", PreTrainedModel.init_weights),
        (torch, "linspace", torch.linspace),
    ]
    for name in getattr(initialization, "TORCH_MODULES_TO_PATCH", ("torch.nn.init",)):
        module = sys.modules.get(name)
        for function in getattr(initialization, "TORCH_INIT_FUNCTIONS", ()):
            if module is not None and hasattr(module, function):
                patched.append((module, function, getattr(module, function)))
    return patched


_ORIGINAL_GLOBALS = _list_patched_globals()
"""Original functions that transformers replaces while it loads a model, read at import, before any
model is loaded through this module."""


@contextmanager
def hold_loading_lock() -> Iterator[None]:
    """Hold the process-wide lock for loading a model; other threads wait.

    Before and after the block every function that transformers replaces during a load is restored,
    and after it torch's default dtype as well, so that neither a failed load nor one by other code
    in this process affects the next. The lock is reentrant.
    """
    with _LOADING_LOCK:
        _restore_globals()
        dtype = torch.get_default_dtype()
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            _restore_globals()


def _restore_globals() -> None:
    for owner, name, value in _ORIGINAL_GLOBALS:
        if getattr(owner, name) is not value:
            setattr(owner, name, value)
