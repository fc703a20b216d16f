"""Options that several commands share, and how options become one decorator."""

from collections.abc import Callable
from typing import Any

import click

from app.commands.option_types import NAME, LocalPath, MemorySize, WholeNumber

Command = Callable[..., Any]
Option = Callable[[Command], Command]


def together(*options: Option) -> Option:
    """All of them as one decorator; `--help` has them in this order."""

    def decorated(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


STORE = click.option("--store", type=LocalPath(), required=True, help="The store: a folder.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print the same as data.")
TEXT_COLUMN = click.option(
    "--text-column",
    type=NAME,
    default="text",
    show_default=True,
    help="The column of texts or token ids; doc.text for a field inside a column.",
)
HARVEST = click.option(
    "--harvest", "harvest_id", type=NAME, help="A harvest's id; the newest, if not given."
)
DICTIONARY = click.option("--dictionary", type=NAME, required=True, help="Its name in the store.")
CONTEXTS = WholeNumber(1, 10_000)
"""Contexts of one stratum that are printed."""

memory_options = together(
    click.option(
        "--model-memory",
        type=MemorySize(),
        help="Bytes of language models kept in memory, such as 2GB; half of it, if not given. "
        "Models that do not fit together take turns.",
    ),
    click.option(
        "--dictionary-memory",
        type=MemorySize(),
        help="Bytes of dictionaries kept in memory, such as 64MB; a quarter of it, if not given. "
        "The others are loaded again when they are asked for.",
    ),
)
"""How much memory weights may take in the process that serves pages."""

model_options = together(
    click.option("--model", type=NAME, required=True, help="A hub name or a Hugging Face folder."),
    click.option(
        "--dictionary",
        "dictionaries",
        type=NAME,
        multiple=True,
        required=True,
        help="A folder or RELEASE/ID, NAME=… in front for another name. Repeat for more.",
    ),
    click.option("--device", type=NAME, help="cpu or cuda; the best there is, if not given."),
    click.option("--dtype", type=NAME, help="float32 (the default) or bfloat16."),
    click.option("--trust-remote-code", is_flag=True, help="Run code that comes with a hub model."),
)
"""Which model and which dictionaries, and where they run."""
