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
        help="Feature to ablate. Repeat for more.",
    ),
    click.option(
        "--part",
        "parts",
        type=NAME,
        multiple=True,
        help="Other part to ablate: head:LAYER.HEAD, mlp:LAYER, attention:LAYER, "
        "error:DICTIONARY or dictionary:DICTIONARY. Repeat for more.",
    ),
    click.option(
        "--mode",
        type=NAME,
        default="zero",
        show_default=True,
        help="Baseline of the ablation: zero, mean, resample or pair.",
    ),
    click.option(
        "--prompt", type=TEXT, required=True, help="Text that ends where the answer begins."
    ),
    click.option(
        "--answer",
        type=TEXT,
        default="",
        help="Answer token, with its leading space (default: the most likely next token).",
    ),
    click.option(
        "--wrong",
        type=TEXT,
        default="",
        help="Wrong answer; the target is then the difference of the two logits.",
    ),
    click.option(
        "--pair",
        type=TEXT,
        default="",
        help="Corrupted prompt of the same length, for --mode pair.",
    ),
    click.option(
        "--positions",
        type=NAME,
        default="counted",
        show_default=True,
        help="Positions to ablate: counted (without BOS and special tokens) or all.",
    ),
    click.option(
        "--seed", type=SEED, default=0, show_default=True, help="Seed of --mode resample."
    ),
    click.option(
        "--store",
        type=LocalPath(),
        help="Store to save the run in; its harvest provides the features' means.",
    ),
)
"""The parts to ablate, the baseline, the prompt and the positions."""
