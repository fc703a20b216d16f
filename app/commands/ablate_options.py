"""The options of `saefari ablate`, apart from those of every command with a model."""

import click

from app.commands.option_types import NAME, SEED, TEXT, LocalPath
from app.commands.options import together

ablate_options = together(
    click.option(
        "--feature",
        "features",
        metavar="DICTIONARY/INDEX",
        type=NAME,
        multiple=True,
        help="What goes. Repeat for more.",
    ),
    click.option(
        "--part",
        "parts",
        type=NAME,
        multiple=True,
        help="As --feature: head:LAYER.HEAD, mlp:LAYER, attention:LAYER, error:DICTIONARY, "
        "dictionary:DICTIONARY.",
    ),
    click.option(
        "--mode",
        type=NAME,
        default="zero",
        show_default=True,
        help="What comes in its place: zero, mean, resample or pair.",
    ),
    click.option(
        "--prompt", type=TEXT, required=True, help="The text up to where the answer follows."
    ),
    click.option(
        "--answer",
        type=TEXT,
        default="",
        help="One token, space included; the likeliest if not given.",
    ),
    click.option(
        "--wrong", type=TEXT, default="", help="Another one: the target is both logits' difference."
    ),
    click.option(
        "--pair", type=TEXT, default="", help="A prompt of the same length to patch from."
    ),
    click.option(
        "--positions",
        type=NAME,
        default="counted",
        show_default=True,
        help="Where: counted tokens, or all, BOS and special ones too.",
    ),
    click.option("--seed", type=SEED, default=0, show_default=True),
    click.option(
        "--store",
        type=LocalPath(),
        help="Keep the run here; its harvest has features' means.",
    ),
)
"""What goes, what comes in its place, and where."""
