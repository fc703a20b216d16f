"""`saefari score`: score explanations, next to baseline labels."""

from pathlib import Path

import click

from app.commands.judging import estimate_first, launch, say
from app.jobs import scoring
from app.jobs.asking import Asking, keep_estimate
from app.jobs.scoring import Scoring
from feature_store.store import Store


def score(
    store: Path,
    dictionary: str,
    *,
    features: str,
    scorer: str,
    explainer: str | None,
    judge: str,
    harvest_id: str | None,
    asking: Asking,
    seed: int,
    yes: bool,
    background: bool,
    as_json: bool,
) -> None:
    """Run a score job and print its results; see `saefari score --help`."""
    opened = Store(store)
    names = tuple(scorer.split(","))
    given = scoring.checked(
        opened,
        Scoring(harvest_id or "", dictionary, features, names, judge, explainer, asking, seed),
    )
    what = (opened, "score", given.to_json(), given.what, scoring.do)
    found = estimate_first(what, lambda: scoring.estimate(opened, given), given.asking, yes=yes)
    keep = (lambda job: keep_estimate(job, found)) if found else (lambda job: None)
    job = launch(*what, background=background, before=keep)
    if background:
        click.echo(job.id)
    else:
        say(job, store, as_json=as_json)
