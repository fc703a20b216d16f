"""Where commands write: as wide as the terminal, or as long as a line is."""

from collections.abc import Callable, Mapping
from typing import Any

import click
from rich.console import Console

from feature_store.strict_json import dump_json, record_nonfinite

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


def print_json(
    facts: Mapping[str, Any] | list[dict[str, Any]],
    default: Callable[[Any], Any] | None = None,
) -> None:
    """Print what a command found as one line of strict JSON: what every `--json` gives.

    A number that is not finite is null there, and named under `not_finite` of its object; `default`
    converts values of types that JSON has not.
    """
    rows = facts if isinstance(facts, list) else [facts]
    clean = [record_nonfinite(row) for row in rows]
    click.echo(dump_json(clean if isinstance(facts, list) else clean[0], default=default))
