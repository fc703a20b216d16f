"""The options of `saefari map`."""

from collections.abc import Callable
from typing import Any

import click

from feature_store.maps import MapPlan

MAP = MapPlan()


def map_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which dictionary, and how it is laid out."""
    options = [
        click.option("--dictionary", required=True, help="Its name in the store."),
        click.option("--harvest", "harvest_id", help="A harvest's id; the newest, if not given."),
        click.option(
            "--neighbours",
            type=int,
            default=MAP.neighbours,
            show_default=True,
            help="Nearest features that each is drawn to.",
        ),
        click.option(
            "--min-dist",
            type=float,
            default=MAP.min_dist,
            show_default=True,
            help="How close two points may come.",
        ),
        click.option("--seed", type=int, default=MAP.seed, show_default=True),
        click.option("--again", is_flag=True, help="Make anew what is there already."),
    ]
    for option in reversed(options):
        command = option(command)
    return command
