"""The options of `saefari clusters`."""

import click

from app.commands.option_types import NAME, SEED, FiniteNumber, OneOf, WholeNumber
from app.commands.options import HARVEST, together
from backend.prediction_clusters.cluster_plan import CLUSTERING_METHODS, MAX_TOKENS, ClusterPlan

PLAN = ClusterPlan()


clusters_options = together(
    click.option(
        "--dictionary",
        "dictionaries",
        type=NAME,
        multiple=True,
        help="Its name in the store; all of the harvest, if not given. Repeat for more.",
    ),
    HARVEST,
    click.option(
        "--tokens",
        type=WholeNumber(20, MAX_TOKENS),
        default=PLAN.tokens,
        show_default=True,
        help="Next tokens to group, one of a sequence.",
    ),
    click.option(
        "--loss",
        type=FiniteNumber(0, 100, above=True),
        default=PLAN.loss,
        show_default=True,
        help="Nats below which a next token counts as predicted.",
    ),
    click.option(
        "--clusters",
        type=WholeNumber(0, MAX_TOKENS),
        default=PLAN.clusters,
        show_default=True,
        help="How many; 0 for one to every 15 tokens.",
    ),
    click.option(
        "--method",
        type=OneOf(CLUSTERING_METHODS),
        default=PLAN.method,
        show_default=True,
        help="How vectors of effects are grouped.",
    ),
    click.option("--seed", type=SEED, default=PLAN.seed, show_default=True),
)
"""Which predictions of which harvest, and how they are grouped."""
