"""The options of `saefari map`."""

import click

from app.commands.option_types import SEED, FiniteNumber, WholeNumber
from app.commands.options import DICTIONARY, HARVEST, together
from feature_store.feature_maps import FeatureMapPlan

MAP = FeatureMapPlan()

map_options = together(
    DICTIONARY,
    HARVEST,
    click.option(
        "--neighbours",
        type=WholeNumber(2, 1_000),
        default=MAP.neighbours,
        show_default=True,
        help="Nearest features that each is drawn to.",
    ),
    click.option(
        "--min-dist",
        type=FiniteNumber(0, 1),
        default=MAP.min_dist,
        show_default=True,
        help="How close two points may come.",
    ),
    click.option("--seed", type=SEED, default=MAP.seed, show_default=True),
    click.option("--again", is_flag=True, help="Make anew what is there already."),
)
"""Which dictionary, and how it is laid out."""
