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
        help="top:N (most often active, with enough contexts), all, list:NAME, failed:JOB, or "
        "numbers such as 1,2,30-40.",
    ),
    click.option("--seed", type=SEED, default=0, show_default=True, help="Draws the contexts."),
)
"""Which features, on which contexts."""

asking_options = together(
    click.option(
        "--model", type=NAME, default="", help="The language model, as its server calls it."
    ),
    click.option(
        "--base-url",
        type=NAME,
        default="",
        help="An OpenAI-compatible server, such as a local one's /v1.",
    ),
    click.option(
        "--budget", type=FiniteNumber(0, 1e9), metavar="DOLLARS", help="Stop before it costs more."
    ),
    click.option("--concurrency", type=WholeNumber(1, 1_000), help="Calls at once."),
    click.option("--retry", is_flag=True, help="Ask again where a kept reply was unusable."),
    click.option("--yes", is_flag=True, help="Do not ask before a job that may cost money."),
    click.option("--background", is_flag=True, help="Begin the job, print its id, and leave."),
)
"""Whom to ask, within which limits, and how the job is begun."""

explain_options = together(
    feature_options,
    click.option(
        "--explainer",
        type=NAME,
        default="pattern",
        show_default=True,
        help="pattern and nearest-text ask nobody; max-activating, strata, token-activation, "
        "with-logits, contrastive, attention and best-of-k ask a language model. Several: a,b.",
    ),
    asking_options,
)
"""Which features, by which explainer, and whom to ask."""

score_options = together(
    feature_options,
    click.option(
        "--scorer",
        type=NAME,
        default="detection",
        show_default=True,
        help="detection, fuzzing, simulation, surprisal, embedding, intruder, generation, "
        "intervention or predicted-logits. Several: a,b.",
    ),
    click.option(
        "--explainer", type=NAME, help="Whose explanations; the newest of each, if not given."
    ),
    click.option(
        "--judge",
        type=OneOf(["pattern", "openai"]),
        default="pattern",
        show_default=True,
        help="Who answers: patterns read from the label, or a language model.",
    ),
    asking_options,
)
"""Which features, by which scorer and judge, and whom to ask."""


def asking_of(options: dict[str, Any]) -> Any:
    """Whom to ask, taken out of a command's options."""
    from app.jobs.asking import Asking

    names = ("base_url", "model", "budget", "concurrency")
    return Asking(**{name: options.pop(name) for name in names}, again=options.pop("retry"))
