"""`saefari export` and `saefari import`: what leaves a store, and what comes into it."""

import time
from pathlib import Path
from typing import cast

import click

from app.commands.terminal import print_json
from app.wording import count, plural
from feature_store.annotations import Annotations
from feature_store.atomic_file import write_file
from feature_store.errors import InputError, listing
from feature_store.exchange import dashboards, files
from feature_store.exchange.reading import read_path, sizes
from feature_store.exchange.shapes import What
from feature_store.exchange.sources import Names, meant
from feature_store.exchange.taking import take_in
from feature_store.store import Store

FORMATS: dict[str, tuple[str, ...]] = {
    "labels": files.FORMATS,
    "lists": (*files.FORMATS, "html"),
    "explanations": files.FORMATS,
    "dashboards": ("neuronpedia",),
}
"""What can be exported, and as what; the first is meant where nothing is said."""
LINE_EVERY_S = 5.0


def export(
    store: Path,
    what: str,
    kind: str | None,
    out: Path,
    list_id: str | None,
    dictionary: str | None,
    harvest_id: str | None,
    source: str | None,
) -> None:
    """Write labels, lists, explanations or dashboards to `out`, and say how much it was."""
    kinds = FORMATS[what]
    kind = kind or kinds[0]
    if kind not in kinds:
        raise InputError(f"{what} cannot be exported as {kind}. {listing(list(kinds))}")
    opened = Store(store)
    if what == "dashboards":
        write_dashboards(opened, out, dictionary, harvest_id, source)
        return
    if list_id is not None and what != "lists":
        raise InputError("--list goes with --what lists.")
    if dictionary is not None or harvest_id is not None or source is not None:
        raise InputError("--dictionary, --harvest and --source go with --what dashboards.")
    said = opened.catalog.snapshot()
    if kind == "html":
        if list_id is None:
            raise InputError("An HTML file shows one list. Say which with --list ID.")
        data, told = sheet_of(opened, said, list_id), "one list"
    else:
        table = files.everything(cast(What, what), said, list_id)
        data = files.written(cast(What, what), table, kind)
        told = f"{plural(table.num_rows, 'row')} of {what}"
    save(out, data)
    click.echo(f"{out}: {told}")


def sheet_of(store: Store, said: Annotations, list_id: str) -> bytes:
    """One list as an HTML file."""
    from streamlit.logger import set_log_level

    set_log_level("ERROR")  # its caches warn that no page is being served
    from app.lists import sheet

    return sheet.page(store, said, list_id)


def save(out: Path, data: bytes) -> None:
    """Write a file. Raises InputError where none can be."""
    try:
        write_file(out, data)
    except OSError as error:
        raise InputError(
            f"{out} cannot be written: {error.strerror}. Give --out another file."
        ) from error


def write_dashboards(
    store: Store, out: Path, dictionary: str | None, harvest_id: str | None, source: str | None
) -> None:
    """A dictionary's dashboards in Neuronpedia's layout."""
    if dictionary is None:
        raise InputError("Say with --dictionary NAME whose dashboards are to be written.")
    file = store.harvest(harvest_id, dictionary)
    began = told = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal told
        if time.monotonic() - told > LINE_EVERY_S:
            told = time.monotonic()
            click.echo(f"{count(done)} of {plural(of, 'feature')}", err=True)

    try:
        written = dashboards.export(
            file, dictionary, out, explanations=store.catalog.snapshot().explanations,
            source=source, tell=tell,
        )  # fmt: skip
    except OSError as error:
        raise InputError(
            f"{out} cannot be written: {error.strerror}. Give --out another folder."
        ) from error
    click.echo(
        f"{written.folder}: {plural(written.features, 'feature')}, "
        f"{plural(written.activations, 'context')}, {plural(written.explanations, 'explanation')} "
        f"in {time.monotonic() - began:.0f} s"
    )


def import_(store: Path, path: Path, words: tuple[str, ...], *, as_json: bool) -> None:
    """Take a file or folder into a store: all of it, or, where anything is wrong, nothing."""
    opened = Store(store)
    names = Names(sizes(opened), meant(words)).check()
    found = read_path(path, names)
    taken = take_in(opened.catalog, found)
    if as_json:
        about = {"what": found.what, "new": taken.new, "same": taken.same}
        print_json({**about, "left_out": list(found.left_out)})
        return
    click.echo(summary(found.what, taken.new, taken.same, found.left_out))


def summary(what: str, new: int, same: int, left_out: tuple[str, ...]) -> str:
    """What an import did, in a sentence."""
    said = f"{plural(new, 'row')} of {what} imported"
    if same:
        said += f"; {plural(same, 'row')} {'was' if same == 1 else 'were'} there already"
    if left_out:
        said += f"; left out: {', '.join(left_out)}"
    return said + "."
