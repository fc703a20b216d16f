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
        help="A .txt, .jsonl, .csv or .parquet file (text also .gz or .zst), a folder of these, "
        "stdlib, demo, or a dataset's hub name. Repeat for more.",
    ),
    STORE,
    click.option("--tokens", type=WholeNumber(1, 10**12), default=PLAN.tokens, show_default=True),
    click.option(
        "--context-size", type=WholeNumber(8, 2**20), default=PLAN.context_size, show_default=True
    ),
    click.option(
        "--forward-batch",
        type=WholeNumber(1, 2**24),
        default=PLAN.forward_batch,
        show_default=True,
        help="Tokens of one forward pass.",
    ),
    click.option("--seed", type=SEED, default=PLAN.seed, show_default=True),
    click.option("--pack", is_flag=True, help="Several documents in one sequence."),
    TEXT_COLUMN,
    click.option("--bf16-encoding", is_flag=True, help="Faster, approximate encoding."),
    click.option(
        "--shard", type=NAME, metavar="I/N", help="Do only this part; the last one done publishes."
    ),
    click.option(
        "--processes",
        type=WholeNumber(1, 1_024),
        default=1,
        show_default=True,
        help="Share the work on this machine.",
    ),
    click.option(
        "--null",
        "nulls",
        type=NAME,
        default="",
        metavar="KIND,…",
        help="Null dictionaries beside each: random, pca, neurons, shuffled. None, if not given.",
    ),
    click.option("--again", is_flag=True, help="Harvest anew what is finished already."),
)
"""Which corpus, how much of it, how it is read, and what is made beside."""
