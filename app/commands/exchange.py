"""`saefari export` and `saefari import`: write a store's annotations and dashboards to files, and
read annotations and circuit graphs from files."""

import time
import zlib
from pathlib import Path
from typing import cast

import click

from app.circuits.importing import is_graph_file, keep_graph, open_file
from app.commands.terminal import print_json
from app.wording import count, plural
from feature_store.annotations import Annotations
from feature_store.atomic_file import write_file
from feature_store.errors import InputError, list_names
from feature_store.exchange import neuronpedia_export, saefari_files
from feature_store.exchange.dictionary_names import DictionaryNames, parse_dictionary_names
from feature_store.exchange.import_reader import read_dictionary_sizes, read_import_path
from feature_store.exchange.import_rows import RowKind
from feature_store.exchange.import_writer import save_import
from feature_store.store import Store

FORMATS: dict[str, tuple[str, ...]] = {
    "labels": saefari_files.FORMATS,
    "lists": (*saefari_files.FORMATS, "html"),
    "explanations": saefari_files.FORMATS,
    "dashboards": ("neuronpedia",),
}
"""File formats by what is exported; the first is the default."""
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
    """Write labels, lists, explanations or dashboards to `out` and print how many rows."""
    kinds = FORMATS[what]
    kind = kind or kinds[0]
    if kind not in kinds:
        raise InputError(f"{what} cannot be exported as {kind}. {list_names(list(kinds))}")
    opened = Store(store)
    if what == "dashboards":
        write_dashboards(opened, out, dictionary, harvest_id, source)
        return
    if list_id is not None and what != "lists":
        raise InputError("--list works only with --what lists.")
    if dictionary is not None or harvest_id is not None or source is not None:
        raise InputError("--dictionary, --harvest and --source work only with --what dashboards.")
    said = opened.catalog.snapshot()
    if kind == "html":
        if list_id is None:
            raise InputError("An HTML file shows one list. Give --list ID.")
        data, told = sheet_of(opened, said, list_id), "one list"
    else:
        table = saefari_files.collect_rows(cast(RowKind, what), said, list_id)
        data = saefari_files.encode_rows(cast(RowKind, what), table, kind)
        told = f"{plural(table.num_rows, 'row')} of {what}"
    save(out, data)
    click.echo(f"{out}: {told}")


def sheet_of(store: Store, said: Annotations, list_id: str) -> bytes:
    """Return one list as an HTML file."""
    from streamlit.logger import set_log_level

    set_log_level("ERROR")  # Streamlit's caches warn outside of a page
    from app.lists import sheet

    return sheet.page(store, said, list_id)


def save(out: Path, data: bytes) -> None:
    """Write a file. Raises InputError if it cannot be written."""
    try:
        write_file(out, data)
    except OSError as error:
        raise InputError(
            f"{out} cannot be written: {error.strerror}. Give --out another file."
        ) from error


def write_dashboards(
    store: Store, out: Path, dictionary: str | None, harvest_id: str | None, source: str | None
) -> None:
    """Write a dictionary's dashboards as files for Neuronpedia."""
    if dictionary is None:
        raise InputError("Dashboards need a dictionary. Give --dictionary NAME.")
    file = store.harvest(harvest_id, dictionary)
    began = told = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal told
        if time.monotonic() - told > LINE_EVERY_S:
            told = time.monotonic()
            click.echo(f"{count(done)} of {plural(of, 'feature')}", err=True)

    try:
        written = neuronpedia_export.export_dashboards(
            file,
            dictionary,
            out,
            explanations=store.catalog.snapshot().explanations,
            source=source,
            report_progress=tell,
        )
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
    """Import a file or folder into a store, or nothing if anything in it is wrong."""
    opened = Store(store)
    if is_graph_file(path):
        import_graph(opened, path, as_json=as_json)
        return
    names = DictionaryNames(read_dictionary_sizes(opened), parse_dictionary_names(words)).check()
    found = read_import_path(path, names)
    taken = save_import(opened.catalog, found)
    if as_json:
        about = {"what": found.kind, "new": taken.new, "same": taken.same}
        print_json({**about, "left_out": list(found.left_out)})
        return
    click.echo(summary(found.kind, taken.new, taken.same, found.left_out))


def import_graph(store: Store, path: Path, *, as_json: bool) -> None:
    """Import a graph file of circuit-tracer, Neuronpedia or Saefari as a circuit."""
    from backend.circuits.graph_file_import import read_graph_file

    if not store.catalog.writable:
        raise InputError(f"{store.catalog.path} cannot be written: it was opened read-only.")
    harvests = store.harvests()
    try:
        found = read_graph_file(lambda: open_file(path))
    except InputError as error:
        raise InputError(f"{path.name} was not imported: {error}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path.name} cannot be unpacked ({error}). Download it again.") from error
    name = keep_graph(store, harvests[0].record.id if harvests else "", path.name, found)
    circuit, marks = found.circuit, found.marks
    facts = {
        "what": "circuit",
        "experiment": name,
        "nodes": len(circuit.nodes),
        "links": len(circuit.edges),
        "pins": len(marks.pins),
        "groups": len(marks.groups),
        "notes": list(circuit.notes),
    }
    if as_json:
        print_json(facts)
        return
    click.echo(
        f"Circuit {name} imported: {plural(len(circuit.nodes), 'node')}, "
        f"{plural(len(circuit.edges), 'link')}, {plural(len(marks.pins), 'pin')}, "
        f"{plural(len(marks.groups), 'group')}."
    )
    for note in circuit.notes:
        click.echo(note)


def summary(what: str, new: int, same: int, left_out: tuple[str, ...]) -> str:
    """Return one sentence on the rows that an import added, found and left out."""
    said = f"{plural(new, 'row')} of {what} imported"
    if same:
        said += f"; {plural(same, 'row')} {'was' if same == 1 else 'were'} there already"
    if left_out:
        said += f"; left out: {', '.join(left_out)}"
    return said + "."
