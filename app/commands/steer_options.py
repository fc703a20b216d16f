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
        help="Feature to edit. Repeat for more.",
    ),
    click.option(
        "--mode",
        type=NAME,
        default="add",
        show_default=True,
        help=f"Mode of the edit: {', '.join(MODES)}.",
    ),
    click.option(
        "--strength",
        type=FiniteNumber(-3e38, 3e38),
        default=1.0,
        show_default=True,
        help="Strength of the edit, in the mode's unit.",
    ),
    click.option("--prompt", type=TEXT, required=True, help="Text that both completions continue."),
    click.option(
        "--max-new",
        type=WholeNumber(1, 100_000),
        default=SAMPLING.max_new,
        show_default=True,
        help="Maximum number of tokens to generate.",
    ),
    click.option(
        "--seed",
        type=SEED,
        default=SAMPLING.seed,
        show_default=True,
        help="Seed of the sampling, the same for both completions.",
    ),
    click.option(
        "--temperature",
        type=FiniteNumber(0, 1_000),
        default=SAMPLING.temperature,
        show_default=True,
        help="Sampling temperature; 0 takes the most likely token.",
    ),
    click.option(
        "--top-p",
        type=FiniteNumber(0, 1, above=True),
        default=SAMPLING.top_p,
        show_default=True,
        help="Sample from the most likely tokens with this total probability.",
    ),
    click.option(
        "--top-k",
        type=WholeNumber(0, 10_000_000),
        default=SAMPLING.top_k,
        show_default=True,
        help="Sample from the K most likely tokens; 0 for all.",
    ),
    click.option(
        "--repetition-penalty",
        type=FiniteNumber(0, 1_000, above=True),
        default=SAMPLING.repetition_penalty,
        show_default=True,
        help="Penalty on tokens that occurred before; 1 for none.",
    ),
    click.option(
        "--stop",
        type=TEXT,
        multiple=True,
        help="End a completion before this text. Repeat for more.",
    ),
    click.option(
        "--where",
        "parts",
        type=NAME,
        default="all",
        show_default=True,
        help="Tokens to edit: all, prompt or generated.",
    ),
    click.option(
        "--positions",
        type=FilledText(100_000),
        help="Edit only these positions, such as 0,3,4; all includes BOS and special tokens.",
    ),
    click.option(
        "--pattern",
        type=NAME,
        help="Edit only tokens that overlap a match of this regular expression.",
    ),
    click.option(
        "--store",
        type=LocalPath(),
        help="Store to save the run in; its harvest provides the features' maxima and means.",
    ),
)
"""The features, their edit, where it applies, and the sampling."""
