"""Whether this process may spend its owner's money and computing time for whoever asks.

A command is its owner's own act, so it may. Pages that other people can reach may not, unless the
owner said so with `--allow-jobs`: the server states it in an environment variable before the
first page is drawn. The check stands where work begins (a job, a long computation, a connection to
a language-model server), so that a page cannot forget it.
"""

import os

from feature_store.errors import InputError

VARIABLE = "SAEFARI_JOBS"
"""Environment variable that states the permission: `1` for yes, `0` for no, absent for yes."""
SHARED = "SAEFARI_SHARED"
"""Environment variable that is `1` where other people can reach this process's pages."""
REFUSAL = (
    "Work that costs money or computing time cannot be started from here, because other people "
    "can reach these pages. Whoever runs them can allow it with: saefari app --allow-jobs"
)
"""What a visitor is told."""


def is_costly_work_allowed() -> bool:
    """Return whether this process may start jobs, long computations and paid requests."""
    return os.environ.get(VARIABLE, "1") == "1"


def require_costly_work_allowed() -> None:
    """Raise InputError with the reason where costly work is not allowed in this process."""
    if not is_costly_work_allowed():
        raise InputError(REFUSAL)


def set_costly_work_allowed(allowed: bool) -> None:
    """State for this process, and for those that it starts, whether costly work is allowed."""
    os.environ[VARIABLE] = "1" if allowed else "0"


def refuse_costly_work_unless_stated() -> None:
    """Refuse costly work where nobody has stated whether it is allowed.

    Pages call this first: one that some other server than `saefari app` shows stays read-only.
    """
    os.environ.setdefault(VARIABLE, "0")


def are_pages_shared() -> bool:
    """Return whether other people can reach this process's pages."""
    return os.environ.get(SHARED) == "1"


def set_pages_shared(shared: bool) -> None:
    """State whether other people can reach this process's pages."""
    os.environ[SHARED] = "1" if shared else "0"
