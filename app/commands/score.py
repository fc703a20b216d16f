"""`saefari score`: how well explanations do, beside labels that know nothing."""

from pathlib import Path

import click

from app.commands.judging import agreed, launch, say
from app.jobs import scoring
from app.jobs.asking import Asking
from app.jobs.scoring import Scoring
from feature_store.store import Store


def score(
    store: Path, dictionary: str, *, features: str, scorer: str, explainer: str | None, judge: str,
    harvest_id: str | None, asking: Asking, seed: int, yes: bool, background: bool, as_json: bool,
) -> None:  # fmt: skip
    """Score, and say what came of it; see `saefari score --help`."""
    opened = Store(store)
    names = tuple(scorer.split(","))
    given = scoring.checked(
        opened,
        Scoring(harvest_id or "", dictionary, features, names, judge, explainer, asking, seed),
    )
    if given.asking.base_url and not agreed(scoring.estimate(opened, given), yes=yes):
        raise click.Abort
    job = launch(opened, "score", given.to_json(), given.what, scoring.do, background=background)
    if background:
        click.echo(job.id)
    else:
        say(job, store, as_json=as_json)
