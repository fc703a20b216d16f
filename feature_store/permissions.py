"""Permissions: whether this process may spend its owner's money and computing time on requests of
visitors.

A command is run by its owner, so it may. Pages that other people can reach may not, unless the
owner started them with `--allow-jobs`: the server sets an environment variable before the first
page is drawn. The check is made where work begins (a job, a long computation, a connection to a
language-model server), so that no page can omit it.
"""

import os

from feature_store.errors import InputError

VARIABLE = "SAEFARI_JOBS"
"""Environment variable that holds the permission for costly work: `1` for yes, `0` for no, unset
for yes."""
SHARED = "SAEFARI_SHARED"
"""Environment variable that is `1` if other people can reach this process's pages."""
REFUSAL = (
    "Work that costs money or computing time cannot be started from here, because other people "
    "can reach these pages. Whoever runs them can allow it with: saefari app --allow-jobs"
)
"""Error message for a visitor who starts costly work without permission."""


def is_costly_work_allowed() -> bool:
    """Return whether this process has the permission to start jobs, long computations and paid
    requests."""
    return os.environ.get(VARIABLE, "1") == "1"


def require_costly_work_allowed() -> None:
    """Raise InputError if this process has no permission for costly work (jobs, long computations
    and paid requests)."""
    if not is_costly_work_allowed():
        raise InputError(REFUSAL)


def set_costly_work_allowed(allowed: bool) -> None:
    """Set the permission for costly work of this process and of those that it starts."""
    os.environ[VARIABLE] = "1" if allowed else "0"


def refuse_costly_work_unless_stated() -> None:
    """Withhold the permission for costly work (jobs, long computations and paid requests) from this
    process if nothing has set it.

    Pages call this first: pages that are served by anything but `saefari app` stay read-only.
    """
    os.environ.setdefault(VARIABLE, "0")


def are_pages_shared() -> bool:
    """Return whether other people can reach this process's pages."""
    return os.environ.get(SHARED) == "1"


def set_pages_shared(shared: bool) -> None:
    """Set whether other people can reach this process's pages."""
    os.environ[SHARED] = "1" if shared else "0"
