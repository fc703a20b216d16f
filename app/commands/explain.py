"""`saefari explain`: explain features by a language model or by patterns."""

from pathlib import Path

import click

from app.commands.judging import estimate_first, launch, say
from app.jobs import explaining
from app.jobs.asking import Asking, keep_estimate
from app.jobs.explaining import Explaining
from feature_store.store import Store


def explain(
    store: Path,
    dictionary: str,
    *,
    features: str,
    explainer: str,
    harvest_id: str | None,
    asking: Asking,
    seed: int,
    yes: bool,
    background: bool,
    as_json: bool,
) -> None:
    """Run an explain job and print its results; see `saefari explain --help`."""
    opened = Store(store)
    names = tuple(explainer.split(","))
    given = explaining.checked(
        opened, Explaining(harvest_id or "", dictionary, features, names, asking, seed)
    )
    what = (opened, "explain", given.to_json(), given.what, explaining.do)
    found = estimate_first(what, lambda: explaining.estimate(opened, given), given.asking, yes=yes)
    keep = (lambda job: keep_estimate(job, found)) if found else (lambda job: None)
    job = launch(*what, background=background, before=keep)
    if background:
        click.echo(job.id)
    else:
        say(job, store, as_json=as_json)
