"""`saefari explain`: sentences about features, by a language model or without one."""

from pathlib import Path
from typing import Any

import click

from app.commands.judging import agreed, launch, say
from app.jobs import explaining
from app.jobs.asking import Asking
from app.jobs.explaining import Explaining
from feature_store.store import Store


def explain(
    store: Path, dictionary: str, *, features: str, explainer: str, harvest_id: str | None,
    asking: Asking, seed: int, yes: bool, background: bool, as_json: bool,
) -> None:  # fmt: skip
    """Explain, and say what came of it; see `saefari explain --help`."""
    opened = Store(store)
    names = tuple(explainer.split(","))
    given = explaining.checked(
        opened, Explaining(harvest_id or "", dictionary, features, names, asking, seed)
    )
    if given.asking.base_url and not agreed(explaining.estimate(opened, given), yes=yes):
        raise click.Abort
    options: dict[str, Any] = {"background": background}
    job = launch(opened, "explain", given.to_json(), given.what, explaining.do, **options)
    if background:
        click.echo(job.id)
    else:
        say(job, store, as_json=as_json)
