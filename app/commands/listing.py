"""`saefari list`: list the harvests and dictionaries of a store."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.commands.terminal import console, print_json
from app.wording import count, measure
from feature_store.harvest_reader import HarvestFile
from feature_store.store import Store


def listing(store_path: Path, *, as_json: bool) -> None:
    """Print harvests and dictionaries, unfinished harvests and problems."""
    store = Store(store_path)
    if as_json:
        print_json(as_data(store), default=str)
        return
    out = console()
    harvests = store.harvests()
    for file in harvests:
        print_harvest(file, out)
    if not harvests:
        out.print(f"{escape(str(store_path))} holds no finished harvest.")
    for one in store.unfinished():
        out.print(f"Unfinished: {one.id}. The same harvest command resumes it.")
    for problem in store.problems():
        out.print(escape(problem), style="yellow")


def as_data(store: Store) -> dict[str, Any]:
    """Return harvests, unfinished harvests and problems as plain data."""
    harvests = [
        {**asdict(file.record), "dictionaries": [asdict(d) for d in file.dictionaries.values()]}
        for file in store.harvests()
    ]
    unfinished = [one.id for one in store.unfinished()]
    return {"harvests": harvests, "unfinished": unfinished, "problems": store.problems()}


def print_harvest(file: HarvestFile, out: Console) -> None:
    """Print one harvest: a line, and a table of its dictionaries."""
    record = file.record
    out.print(
        f"[bold]{record.id}[/bold]  {escape(record.model)} on {escape(record.corpus)}: "
        f"{count(record.tokens)} tokens, {count(record.documents)} documents, "
        f"{record.finished:%Y-%m-%d %H:%M} UTC"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("dictionary", "reads", "features", "dead", "L0", "EV", "ΔCE (nats)"):
        table.add_column(title, justify="left" if title in ("dictionary", "reads") else "right")
    for d in file.dictionaries.values():
        numbers = (measure(d.l0), measure(d.explained_variance), measure(d.delta_ce, 2))
        hooks = " + ".join(d.read_hooks)
        table.add_row(escape(d.dictionary), hooks, count(d.d_sae), count(d.n_dead), *numbers)
    out.print(table)
    for d in file.dictionaries.values():
        for words in d.check_words:
            out.print(f"{escape(d.dictionary)}: {escape(words)}", style="yellow")
    out.print()
