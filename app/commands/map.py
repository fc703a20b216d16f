"""`saefari map`: compute the feature map of a dictionary in this process."""

from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.commands.terminal import console
from app.wording import count
from feature_store.errors import InputError
from feature_store.feature_maps import FeatureMapPlan, FeatureMaps
from feature_store.store import Store


def map_(
    store: Path, dictionary: str, *, harvest_id: str | None, plan: FeatureMapPlan, again: bool
) -> None:
    """Compute and save a feature map unless the store has one; see `saefari map --help`."""
    opened, maps = Store(store), FeatureMaps(store)
    file = opened.harvest(harvest_id, dictionary)
    file.dictionary(dictionary)
    if not again and maps.find(file.record.id, dictionary):
        click.echo(f"The store has a map of {dictionary}. Use --again to compute it again.")
        return
    if plan.neighbours < 2:
        raise InputError(f"--neighbours must be 2 or more, not {plan.neighbours}.")

    from backend.features.feature_map import compute_feature_map

    out = console(stderr=True)
    columns = TextColumn("{task.description:<20}"), BarColumn(32), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=out, disable=not out.is_terminal) as bar:
        task = bar.add_task("")

        def tell(done: int, total: int, note: str) -> None:
            bar.update(task, completed=done, total=total, description=note)

        made = compute_feature_map(file, dictionary, opened.places.read_all(), plan, tell)
    maps.write(made)
    click.echo(
        f"{count(len(made.feature))} features of {dictionary} in {made.about.seconds:g} s, "
        f"{count(int(made.cluster.max()) + 1)} clusters. Open it: saefari app --store {store}"
    )
