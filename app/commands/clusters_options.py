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
        help="Dictionary, by its name in the store (default: all of the harvest). Repeat for more.",
    ),
    HARVEST,
    click.option(
        "--tokens",
        type=WholeNumber(20, MAX_TOKENS),
        default=PLAN.tokens,
        show_default=True,
        help="Number of next tokens to cluster, one from each sequence.",
    ),
    click.option(
        "--loss",
        type=FiniteNumber(0, 100, above=True),
        default=PLAN.loss,
        show_default=True,
        help="Loss in nats below which a next token counts as predicted.",
    ),
    click.option(
        "--clusters",
        type=WholeNumber(0, MAX_TOKENS),
        default=PLAN.clusters,
        show_default=True,
        help="Number of clusters; 0 for one per 15 tokens.",
    ),
    click.option(
        "--method",
        type=OneOf(CLUSTERING_METHODS),
        default=PLAN.method,
        show_default=True,
        help="Clustering method for the vectors of effects.",
    ),
    click.option(
        "--seed",
        type=SEED,
        default=PLAN.seed,
        show_default=True,
        help="Seed of the sampled tokens and of the clustering.",
    ),
)
"""The harvest, the next tokens to cluster, and the clustering method."""
