"""Output of the commands: Rich consoles and strict JSON."""

from collections.abc import Callable, Mapping
from typing import Any

import click
from rich.console import Console

from feature_store.strict_json import dump_json, record_nonfinite

UNCUT = 100_000
"""Width for a pipe or a file, where lines must not wrap."""


def console(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """Return a console on stdout or stderr without automatic highlighting.

    With `soft_wrap` the terminal breaks long lines, and no space is lost.
    """
    found = Console(stderr=stderr, highlight=False, soft_wrap=soft_wrap)
    if not found.is_terminal:
        found.width = UNCUT
    return found


def print_json(
    facts: Mapping[str, Any] | list[dict[str, Any]],
    default: Callable[[Any], Any] | None = None,
) -> None:
    """Print the result of a command as one line of strict JSON, as every `--json` does.

    A number that is not finite becomes null and is listed under `not_finite` of its object;
    `default` converts values of types that JSON lacks.
    """
    rows = facts if isinstance(facts, list) else [facts]
    clean = [record_nonfinite(row) for row in rows]
    click.echo(dump_json(clean if isinstance(facts, list) else clean[0], default=default))
