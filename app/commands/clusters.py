"""`saefari clusters`: find prediction clusters of a harvest, save them and print them."""

from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.commands.terminal import console, print_json
from app.time_estimates import describe_estimate
from app.wording import count, measure, plural
from backend.model.run_token_counts import RunTokenCounts, count_cluster_tokens
from backend.prediction_clusters.cluster_plan import TOKENS_PER_CLUSTER, ClusterPlan
from feature_store.harvest_reader import HarvestFile
from feature_store.number_format import format_fixed
from feature_store.store import Store

NAMED = 4
"""Number of features and predicted tokens to print for each cluster."""


def work_of(plan: ClusterPlan, file: HarvestFile) -> RunTokenCounts:
    """Return the token counts of the passes that finding clusters takes."""
    n_dictionaries = len(plan.dictionaries) or len(file.dictionaries)
    context = file.record.tokens / max(len(file.sequences), 1)
    n_clusters = plan.clusters or max(2, plan.tokens // TOKENS_PER_CLUSTER)
    return count_cluster_tokens(plan.tokens, round(context), n_dictionaries, n_clusters)


def clusters(store: Path, *, harvest_id: str | None, plan: ClusterPlan, as_json: bool) -> None:
    """Find prediction clusters, save them, print them; see `saefari clusters --help`."""
    opened = Store(store)
    plan.check()
    file = opened.harvest(harvest_id, plan.dictionaries[0] if plan.dictionaries else None)
    for name in plan.dictionaries:
        file.dictionary(name)

    from app.behaviours import keeping
    from backend.engine import LocalEngine
    from backend.model.device import choose_placement
    from backend.model.model_speed import measure_and_store_speed
    from backend.prediction_clusters.cluster_analysis import find_clusters

    out = console(stderr=True)
    columns = TextColumn("{task.description:<24}"), BarColumn(32), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=out, disable=not out.is_terminal) as bar:
        task = bar.add_task("loading the model")

        def tell(done: int, total: int, note: str) -> None:
            bar.update(task, completed=done, total=total, description=note)

        engine = LocalEngine.load(file, opened.places.read_all(), choose_placement())
        work = work_of(plan, file)
        if said := describe_estimate(work, measure_and_store_speed(opened.speeds, engine.lm)):
            out.print(said, markup=False)
        found = find_clusters(engine, file, plan, tell)
    name = keeping.keep(opened, file.record.id, engine, plan, found)
    if as_json:
        print_json({"experiment": name, **found})
        return
    text = file.vocabulary.text
    for one in found["clusters"]:
        words = " ".join(repr(text(token)) for token, _ in one["targets"][:NAMED])
        features = ", ".join(row["feature"] for row in one["features"][:NAMED])
        judged = one["judged"]
        fell = (
            f"{format_fixed(judged['own']['value'], signed=True)} nats" if judged else "not judged"
        )
        click.echo(f"{one['n']:>5}  {words:<40}  {fell:<14}  {features}")
    alike = found["cosines"]
    click.echo(
        f"{plural(found['picked'], 'token')} of {count(found['good'])} predicted well, kept as "
        f"{name}. Mean cosine in a cluster {measure(alike['inside'], 2)}, by chance "
        f"{measure(alike['chance'], 2)}."
    )
