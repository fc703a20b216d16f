"""The options of `saefari export`."""

from pathlib import Path

import click

from app.commands.options import HARVEST, together

export_options = together(
    click.option(
        "--what",
        type=click.Choice(["labels", "lists", "explanations", "dashboards"]),
        required=True,
        help="labels: with notes and stars. dashboards: everything about one dictionary.",
    ),
    click.option(
        "--format",
        "kind",
        type=click.Choice(["json", "parquet", "html", "neuronpedia"]),
        help="json if not given; html for one list; dashboards are always neuronpedia.",
    ),
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        required=True,
        help="A file; a folder for dashboards.",
    ),
    click.option(
        "--list", "list_id", metavar="ID", help="Only this list, as its page's link has it."
    ),
    click.option("--dictionary", help="Whose dashboards."),
    HARVEST,
    click.option("--source", metavar="MODEL/LAYER-SET", help="What Neuronpedia shall call it."),
)
"""What is written, as what, and where to."""
