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
        help="Number of nearest features that attract each feature (UMAP n_neighbors).",
    ),
    click.option(
        "--min-dist",
        type=FiniteNumber(0, 1),
        default=MAP.min_dist,
        show_default=True,
        help="Minimum distance of two points (UMAP min_dist).",
    ),
    click.option("--seed", type=SEED, default=MAP.seed, show_default=True, help="Seed of UMAP."),
    click.option("--again", is_flag=True, help="Compute the map again even if the store has one."),
)
"""The dictionary and the parameters of UMAP."""
