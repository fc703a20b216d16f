"""The options of `saefari export`."""

import click

from app.commands.option_types import NAME, LocalPath, OneOf
from app.commands.options import HARVEST, together

export_options = together(
    click.option(
        "--what",
        type=OneOf(["labels", "lists", "explanations", "dashboards"]),
        required=True,
        help="What to export: labels (with notes and stars), lists, explanations, or dashboards of "
        "one dictionary.",
    ),
    click.option(
        "--format",
        "kind",
        type=OneOf(["json", "parquet", "html", "neuronpedia"]),
        help="File format (default: json; html is for one list, neuronpedia for dashboards).",
    ),
    click.option(
        "--out",
        type=LocalPath(),
        required=True,
        help="File to write; for dashboards, a folder.",
    ),
    click.option(
        "--list",
        "list_id",
        type=NAME,
        metavar="ID",
        help="Export only this list; its id is in the link of its page.",
    ),
    click.option("--dictionary", type=NAME, help="Dictionary whose dashboards are exported."),
    HARVEST,
    click.option(
        "--source", type=NAME, metavar="MODEL/LAYER-SET", help="Name of the source on Neuronpedia."
    ),
)
"""What is exported, its file format and its path."""
