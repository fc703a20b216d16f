"""Where commands write: as wide as the terminal, or as long as a line is."""

from rich.console import Console

UNCUT = 100_000
"""Columns for a pipe or a file, where nothing must be wrapped or cut for the eye."""


def console(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """A console on stdout or stderr that colours only what we say it should.

    With `soft_wrap` the terminal breaks long lines, and no space is lost.
    """
    found = Console(stderr=stderr, highlight=False, soft_wrap=soft_wrap)
    if not found.is_terminal:
        found.width = UNCUT
    return found
