"""The options of `saefari steer`, apart from those of every command with a model."""

from pathlib import Path

import click

from app.commands.options import together
from backend.generation.records import Sampling

SAMPLING = Sampling()

steer_options = together(
    click.option(
        "--feature",
        "features",
        metavar="DICTIONARY/INDEX",
        multiple=True,
        required=True,
        help="Repeat for more.",
    ),
    click.option("--mode", default="add", show_default=True, help="How they are edited."),
    click.option(
        "--strength", type=float, default=1.0, show_default=True, help="In the mode's unit."
    ),
    click.option("--prompt", required=True, help="The text that both go on from."),
    click.option("--max-new", type=int, default=SAMPLING.max_new, show_default=True),
    click.option("--seed", type=int, default=SAMPLING.seed, show_default=True),
    click.option("--temperature", type=float, default=SAMPLING.temperature, show_default=True),
    click.option("--top-p", type=float, default=SAMPLING.top_p, show_default=True),
    click.option("--top-k", type=int, default=SAMPLING.top_k, show_default=True),
    click.option(
        "--repetition-penalty", type=float, default=SAMPLING.repetition_penalty, show_default=True
    ),
    click.option("--stop", multiple=True, help="End a text before this. Repeat for more."),
    click.option(
        "--where",
        "parts",
        default="all",
        show_default=True,
        help="Tokens: all, prompt or generated.",
    ),
    click.option("--positions", help="Only these, as 0,3,4; all means BOS and special tokens too."),
    click.option("--pattern", help="Only tokens that touch a match of this regular expression."),
    click.option(
        "--store",
        type=click.Path(path_type=Path),
        help="Keep the run here; its harvest has features' maxima and means.",
    ),
)
"""Which features, how they are edited, where, and how the texts are drawn."""
