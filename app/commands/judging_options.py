"""The options of `saefari explain` and `saefari score`."""

from typing import Any

import click

from app.commands.option_types import (
    NAME,
    SEED,
    FilledText,
    FiniteNumber,
    OneOf,
    WholeNumber,
)
from app.commands.options import DICTIONARY, HARVEST, together

feature_options = together(
    DICTIONARY,
    HARVEST,
    click.option(
        "--features",
        type=FilledText(100_000),
        default="top:500",
        show_default=True,
        help="Features: top:N (most often active, with enough contexts), all, list:NAME, "
        "failed:JOB, or numbers such as 1,2,30-40.",
    ),
    click.option(
        "--seed", type=SEED, default=0, show_default=True, help="Seed of the sampled contexts."
    ),
)
"""The dictionary, its features, and the seed of the contexts."""

asking_options = together(
    click.option(
        "--model", type=NAME, default="", help="Language model, by its server's name for it."
    ),
    click.option(
        "--base-url",
        type=NAME,
        default="",
        help="URL of an OpenAI-compatible server, or a name that saefari servers lists.",
    ),
    click.option(
        "--budget",
        type=FiniteNumber(0, 1e9),
        metavar="DOLLARS",
        help="Stop before the job costs more.",
    ),
    click.option("--concurrency", type=WholeNumber(1, 1_000), help="Number of concurrent calls."),
    click.option("--retry", is_flag=True, help="Ask again where a saved reply was unusable."),
    click.option(
        "--yes", is_flag=True, help="Start without confirmation, even if the job costs money."
    ),
    click.option(
        "--background", is_flag=True, help="Start the job in the background and print its id."
    ),
)
"""The language model, its limits, and how the job starts."""

explain_options = together(
    feature_options,
    click.option(
        "--explainer",
        type=NAME,
        default="pattern",
        show_default=True,
        help="Explainers, separated by commas: pattern and nearest-text need no language model; "
        "max-activating, strata, token-activation, with-logits, contrastive, attention and "
        "best-of-k ask one.",
    ),
    asking_options,
)
"""The features, the explainers and the language model."""

score_options = together(
    feature_options,
    click.option(
        "--scorer",
        type=NAME,
        default="detection",
        show_default=True,
        help="Scorers, separated by commas: detection, fuzzing, simulation, surprisal, embedding, "
        "intruder, generation, intervention, predicted-logits.",
    ),
    click.option(
        "--explainer",
        type=NAME,
        help="Score the explanations of this explainer (default: the newest of each feature).",
    ),
    click.option(
        "--judge",
        type=OneOf(["pattern", "openai"]),
        default="pattern",
        show_default=True,
        help="Judge: patterns read from the label, or a language model.",
    ),
    asking_options,
)
"""The features, the scorers, the judge and the language model."""


def asking_of(options: dict[str, Any]) -> Any:
    """Return the settings of the language model, removing them from a command's options."""
    from app.jobs.asking import Asking

    names = ("base_url", "model", "budget", "concurrency")
    return Asking(**{name: options.pop(name) for name in names}, again=options.pop("retry"))
