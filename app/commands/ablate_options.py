"""The options of `saefari ablate`, apart from those of every command with a model."""

from pathlib import Path

import click

from app.commands.options import together

ablate_options = together(
    click.option(
        "--feature",
        "features",
        metavar="DICTIONARY/INDEX",
        multiple=True,
        help="What goes. Repeat for more.",
    ),
    click.option(
        "--part",
        "parts",
        multiple=True,
        help="As --feature: head:LAYER.HEAD, mlp:LAYER, attention:LAYER, error:DICTIONARY, "
        "dictionary:DICTIONARY.",
    ),
    click.option(
        "--mode",
        default="zero",
        show_default=True,
        help="What comes in its place: zero, mean, resample or pair.",
    ),
    click.option("--prompt", required=True, help="The text up to where the answer follows."),
    click.option(
        "--answer", default="", help="One token, space included; the likeliest if not given."
    ),
    click.option("--wrong", default="", help="Another one: the target is both logits' difference."),
    click.option("--pair", default="", help="A prompt of the same length to patch from."),
    click.option(
        "--positions",
        default="counted",
        show_default=True,
        help="Where: counted tokens, or all, BOS and special ones too.",
    ),
    click.option("--seed", type=int, default=0, show_default=True),
    click.option(
        "--store",
        type=click.Path(path_type=Path),
        help="Keep the run here; its harvest has features' means.",
    ),
)
"""What goes, what comes in its place, and where."""
