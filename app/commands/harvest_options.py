"""The options of `saefari harvest`, apart from those of every command with a model."""

import click

from app.commands.option_types import NAME, SEED, WholeNumber
from app.commands.options import STORE, TEXT_COLUMN, together
from backend.harvest.harvest_plan import HarvestPlan

PLAN = HarvestPlan()

harvest_options = together(
    click.option(
        "--corpus",
        "corpora",
        type=NAME,
        multiple=True,
        required=True,
        help="Corpus: a .txt, .jsonl, .csv or .parquet file (text also .gz or .zst), a folder of "
        "these, stdlib, demo, or a dataset's hub name. Repeat for more.",
    ),
    STORE,
    click.option(
        "--tokens",
        type=WholeNumber(1, 10**12),
        default=PLAN.tokens,
        show_default=True,
        help="Number of tokens to read.",
    ),
    click.option(
        "--context-size",
        type=WholeNumber(8, 2**20),
        default=PLAN.context_size,
        show_default=True,
        help="Tokens of one sequence.",
    ),
    click.option(
        "--forward-batch",
        type=WholeNumber(1, 2**24),
        default=PLAN.forward_batch,
        show_default=True,
        help="Tokens of one forward pass.",
    ),
    click.option(
        "--seed", type=SEED, default=PLAN.seed, show_default=True, help="Seed of the samples."
    ),
    click.option("--pack", is_flag=True, help="Pack several documents into one sequence."),
    TEXT_COLUMN,
    click.option("--bf16-encoding", is_flag=True, help="Encode in bfloat16: faster, approximate."),
    click.option(
        "--shard",
        type=NAME,
        metavar="I/N",
        help="Harvest only shard I of N; the last finished shard publishes the harvest.",
    ),
    click.option(
        "--processes",
        type=WholeNumber(1, 1_024),
        default=1,
        show_default=True,
        help="Number of processes on this machine.",
    ),
    click.option(
        "--null",
        "nulls",
        type=NAME,
        default="",
        metavar="KIND,…",
        help="Null dictionaries to harvest next to each dictionary: random, pca, neurons, shuffled "
        "(default: none).",
    ),
    click.option("--again", is_flag=True, help="Harvest again even if a finished harvest exists."),
)
"""The corpus, how many tokens are read and how, and the null dictionaries."""
