"""The options of `saefari circuit`, apart from those of every command with a model."""

import click

from app.commands.option_types import NAME, SEED, TEXT, LocalPath, WholeNumber
from app.commands.options import together

circuit_options = together(
    click.option("--prompt", type=TEXT, help="The text up to where the target follows."),
    click.option(
        "--corrupt",
        type=TEXT,
        default="",
        help="Its partner, as many tokens long; nodes take its values.",
    ),
    click.option(
        "--prompts",
        type=LocalPath("file"),
        help="A JSON Lines file instead: prompt, answer, wrong, and if you like pair.",
    ),
    click.option(
        "--task", type=NAME, default="", help="A task of the demo instead, such as indirect_object."
    ),
    click.option(
        "--n-prompts",
        type=WholeNumber(1, 100_000),
        default=64,
        show_default=True,
        help="Of the task.",
    ),
    click.option(
        "--target",
        "targets",
        type=TEXT,
        multiple=True,
        help="A token, space included. Repeat: their sum counts.",
    ),
    click.option(
        "--against",
        type=TEXT,
        multiple=True,
        help="What the target is compared with. Repeat for more.",
    ),
    click.option(
        "--from",
        "start",
        type=NAME,
        metavar="START",
        default="",
        help="Not a token but DICTIONARY/INDEX[@POSITION] or head:LAYER.HEAD@QUERY,KEY.",
    ),
    click.option(
        "--method",
        type=NAME,
        default="sparse-features",
        show_default=True,
        help="sparse-features, attribution-graph, weights, trace or head-codes.",
    ),
    click.option(
        "--baseline",
        type=NAME,
        default="",
        help="Where nodes go: zero, mean, resample, or pair (usual where there are pairs).",
    ),
    click.option(
        "--places",
        type=NAME,
        default="",
        help="Nodes at each position, at ends (the last token, the rest), or their sum.",
    ),
    click.option(
        "--errors",
        type=NAME,
        default="count",
        show_default=True,
        help="Error terms in the proof: count (as nodes), keep or remove.",
    ),
    click.option(
        "--nodes",
        type=WholeNumber(1, 100_000),
        default=200,
        show_default=True,
        help="At most so many.",
    ),
    click.option(
        "--edges",
        type=WholeNumber(1, 2_000_000),
        default=5000,
        show_default=True,
        help="At most so many.",
    ),
    click.option("--seed", type=SEED, default=0, show_default=True),
    click.option("--store", type=LocalPath(), help="Keep it here, to be opened there."),
)
"""On what, toward what, how, and how much of it."""
