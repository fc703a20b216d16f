"""The options of `saefari export`."""

import click

from app.commands.option_types import NAME, LocalPath, OneOf
from app.commands.options import HARVEST, together

export_options = together(
    click.option(
        "--what",
        type=OneOf(["labels", "lists", "explanations", "dashboards"]),
        required=True,
        help="labels: with notes and stars. dashboards: everything about one dictionary.",
    ),
    click.option(
        "--format",
        "kind",
        type=OneOf(["json", "parquet", "html", "neuronpedia"]),
        help="json if not given; html for one list; dashboards are always neuronpedia.",
    ),
    click.option(
        "--out",
        type=LocalPath(),
        required=True,
        help="A file; a folder for dashboards.",
    ),
    click.option(
        "--list",
        "list_id",
        type=NAME,
        metavar="ID",
        help="Only this list, as its page's link has it.",
    ),
    click.option("--dictionary", type=NAME, help="Whose dashboards."),
    HARVEST,
    click.option(
        "--source", type=NAME, metavar="MODEL/LAYER-SET", help="What Neuronpedia shall call it."
    ),
)
"""What is written, as what, and where to."""
