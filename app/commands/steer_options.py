"""The options of `saefari steer`, apart from those of every command with a model."""

import click

from app.commands.option_types import (
    NAME,
    SEED,
    TEXT,
    FilledText,
    FiniteNumber,
    LocalPath,
    WholeNumber,
)
from app.commands.options import together
from backend.generation.records import SamplingSettings
from backend.interventions.edit_modes import MODES

SAMPLING = SamplingSettings()

steer_options = together(
    click.option(
        "--feature",
        "features",
        metavar="DICTIONARY/INDEX",
        type=NAME,
        multiple=True,
        required=True,
        help="Repeat for more.",
    ),
    click.option(
        "--mode",
        type=NAME,
        default="add",
        show_default=True,
        help=f"How they are edited: {', '.join(MODES)}.",
    ),
    click.option(
        "--strength",
        type=FiniteNumber(-3e38, 3e38),
        default=1.0,
        show_default=True,
        help="In the mode's unit.",
    ),
    click.option("--prompt", type=TEXT, required=True, help="The text that both go on from."),
    click.option(
        "--max-new", type=WholeNumber(1, 100_000), default=SAMPLING.max_new, show_default=True
    ),
    click.option("--seed", type=SEED, default=SAMPLING.seed, show_default=True),
    click.option(
        "--temperature",
        type=FiniteNumber(0, 1_000),
        default=SAMPLING.temperature,
        show_default=True,
    ),
    click.option(
        "--top-p", type=FiniteNumber(0, 1, above=True), default=SAMPLING.top_p, show_default=True
    ),
    click.option(
        "--top-k", type=WholeNumber(0, 10_000_000), default=SAMPLING.top_k, show_default=True
    ),
    click.option(
        "--repetition-penalty",
        type=FiniteNumber(0, 1_000, above=True),
        default=SAMPLING.repetition_penalty,
        show_default=True,
    ),
    click.option(
        "--stop", type=TEXT, multiple=True, help="End a text before this. Repeat for more."
    ),
    click.option(
        "--where",
        "parts",
        type=NAME,
        default="all",
        show_default=True,
        help="Tokens: all, prompt or generated.",
    ),
    click.option(
        "--positions",
        type=FilledText(100_000),
        help="Only these, as 0,3,4; all means BOS and special tokens too.",
    ),
    click.option(
        "--pattern", type=NAME, help="Only tokens that touch a match of this regular expression."
    ),
    click.option(
        "--store",
        type=LocalPath(),
        help="Keep the run here; its harvest has features' maxima and means.",
    ),
)
"""Which features, how they are edited, where, and how the texts are drawn."""
