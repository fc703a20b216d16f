"""Options that several commands share, and `together`, which joins options into one decorator."""

from collections.abc import Callable
from typing import Any

import click

from app.commands.option_types import NAME, LocalPath, MemorySize, WholeNumber

Command = Callable[..., Any]
Option = Callable[[Command], Command]


def together(*options: Option) -> Option:
    """Return one decorator that adds the options; `--help` lists them in this order."""

    def decorated(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


STORE = click.option("--store", type=LocalPath(), required=True, help="Folder of the store.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
TEXT_COLUMN = click.option(
    "--text-column",
    type=NAME,
    default="text",
    show_default=True,
    help="Column of the texts or token ids; doc.text names a field inside a column.",
)
HARVEST = click.option(
    "--harvest", "harvest_id", type=NAME, help="Id of the harvest (default: the newest)."
)
DICTIONARY = click.option(
    "--dictionary", type=NAME, required=True, help="Dictionary, by its name in the store."
)
CONTEXTS = WholeNumber(1, 10_000)
"""Type of the number of contexts to print from one stratum."""

memory_options = together(
    click.option(
        "--model-memory",
        type=MemorySize(),
        help="Memory for language models, such as 2GB (default: half of the memory). Models that "
        "do not fit together take turns.",
    ),
    click.option(
        "--dictionary-memory",
        type=MemorySize(),
        help="Memory for dictionaries, such as 64MB (default: a quarter of the memory). Others are "
        "loaded again when a page needs them.",
    ),
)
"""Memory that weights may take in the process that serves the pages."""

model_options = together(
    click.option(
        "--model", type=NAME, required=True, help="Model: a hub name or a Hugging Face folder."
    ),
    click.option(
        "--dictionary",
        "dictionaries",
        type=NAME,
        multiple=True,
        required=True,
        help="Dictionary: a folder or RELEASE/ID; NAME=… gives it another name. Repeat for more.",
    ),
    click.option("--device", type=NAME, help="cpu or cuda (default: the best available)."),
    click.option(
        "--dtype", type=NAME, help="Number format of the model: float32 (default) or bfloat16."
    ),
    click.option(
        "--trust-remote-code", is_flag=True, help="Run the code that comes with a hub model."
    ),
)
"""The model, its dictionaries, and the device that they run on."""
