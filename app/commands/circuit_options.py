"""The options of `saefari circuit`, apart from those of every command with a model."""

import click

from app.commands.option_types import NAME, SEED, TEXT, LocalPath, WholeNumber
from app.commands.options import together

circuit_options = together(
    click.option("--prompt", type=TEXT, help="Text that ends where the target begins."),
    click.option(
        "--corrupt",
        type=TEXT,
        default="",
        help="Corrupted prompt of the same length; nodes take its values.",
    ),
    click.option(
        "--prompts",
        type=LocalPath("file"),
        help="JSON Lines file of prompts: prompt, answer, wrong and, optionally, pair.",
    ),
    click.option(
        "--task",
        type=NAME,
        default="",
        help="Task of the demo to take prompts from, such as indirect_object.",
    ),
    click.option(
        "--n-prompts",
        type=WholeNumber(1, 100_000),
        default=64,
        show_default=True,
        help="Number of prompts to draw from the task.",
    ),
    click.option(
        "--target",
        "targets",
        type=TEXT,
        multiple=True,
        help="Target token, with its leading space. Repeat to sum several.",
    ),
    click.option(
        "--against",
        type=TEXT,
        multiple=True,
        help="Token that the target is compared with. Repeat for more.",
    ),
    click.option(
        "--from",
        "start",
        type=NAME,
        metavar="START",
        default="",
        help="Other target: DICTIONARY/INDEX[@POSITION] or head:LAYER.HEAD@QUERY,KEY.",
    ),
    click.option(
        "--method",
        type=NAME,
        default="sparse-features",
        show_default=True,
        help="Method: sparse-features, attribution-graph, weights, trace or head-codes.",
    ),
    click.option(
        "--baseline",
        type=NAME,
        default="",
        help="Value that an ablated node takes: zero, mean, resample or pair (default: pair with "
        "corrupted prompts, otherwise zero).",
    ),
    click.option(
        "--places",
        type=NAME,
        default="",
        help="Places of nodes: position (each), ends (the last token, the rest) or sum (all).",
    ),
    click.option(
        "--errors",
        type=NAME,
        default="count",
        show_default=True,
        help="Error terms in the faithfulness: count (as nodes), keep or remove.",
    ),
    click.option(
        "--nodes",
        type=WholeNumber(1, 100_000),
        default=200,
        show_default=True,
        help="Maximum number of nodes to keep.",
    ),
    click.option(
        "--edges",
        type=WholeNumber(1, 2_000_000),
        default=5000,
        show_default=True,
        help="Maximum number of edges to keep.",
    ),
    click.option(
        "--seed",
        type=SEED,
        default=0,
        show_default=True,
        help="Seed of prompts, baselines and nulls.",
    ),
    click.option("--store", type=LocalPath(), help="Store to save the circuit in."),
)
"""The prompts, the target, the method, and the size of the circuit."""
