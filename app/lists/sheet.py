"""A list as one HTML file: its notes, then every feature's facts, logits and strongest contexts.

Made as `app/sheet.py` makes one feature: no server, no script, nothing fetched.
"""

from html import escape as safe
from pathlib import Path

from app import sheet
from app.annotations import Said
from app.export import opened
from app.panels.panel_context import PanelContext
from app.session import Place
from app.wording import plural
from feature_store.annotations import Annotations
from feature_store.errors import InputError
from feature_store.feature_lists import FeatureList, ListEntry
from feature_store.store import Store

CONTEXTS = 10
"""Contexts of each feature."""


def file_name(found: FeatureList, ending: str) -> str:
    """The list's name with nothing in it that a file's name may not have."""
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in found.name).strip(".-")
    return f"{name or found.id}.{ending}"


def page(store: Store, said: Annotations, list_id: str) -> bytes:
    """The file, in UTF-8. Raises InputError where there is no such list."""
    found = said.lists.get(list_id)
    parts = [f'<p class="pre">{safe(found.description)}</p>'] if found.description else []
    parts += [
        f'<p class="muted">{safe(plural(len(found.entries), "feature"))} · list {safe(found.id)} · '
        f"changed {found.changed:%Y-%m-%d %H:%M} UTC</p>",
        *contents(found, said),
    ]
    for number, entry in enumerate(found.entries):
        parts += section(store, said, entry, number)
    return sheet.document(found.name, parts)


def contents(found: FeatureList, said: Annotations) -> list[str]:
    """The list at a glance: each feature with its label and its note."""
    rows = []
    for number, entry in enumerate(found.entries):
        label = said.values_of_feature(entry.feature).get("label", "")
        rows.append(
            f'<tr><td class="mono"><a href="#f{number}">{safe(str(entry.feature))}</a></td>'
            f'<td>{safe(label)}</td><td class="words">{safe(entry.note)}</td></tr>'
        )
    head = "<tr><th>feature</th><th>label</th><th>note in this list</th></tr>"
    return ["<table>", head, *rows, "</table>"] if rows else []


def section(store: Store, said: Annotations, entry: ListEntry, number: int) -> list[str]:
    """One feature; where the store has no harvest of it, that is said."""
    head = f'<h2 class="feature" id="f{number}">{safe(str(entry.feature))}</h2>'
    note = [f'<p class="pre">{safe(entry.note)}</p>'] if entry.note else []
    try:
        file = store.find_harvest(entry.feature)
    except InputError as error:
        return [head, *note, f'<p class="amber">{safe(str(error))}</p>']
    place = Place(file, file.dictionary(entry.feature.dictionary))
    subject = PanelContext.read(place, entry.feature, Said(said))
    return [
        head,
        *note,
        *sheet.of_feature(subject, said.values_of_feature(entry.feature), CONTEXTS),
    ]


def lines(store: Path, list_id: str) -> str:
    """The few lines of Python that give a list's features and notes."""
    return f"""{opened(store)}
found = store.catalog.snapshot().lists.get({list_id!r})
notes = {{entry.feature: entry.note for entry in found.entries}}
features = [store.find_harvest(entry.feature).payload(entry.feature) for entry in found.entries]
"""


def all_lines(store: Path) -> str:
    """The same for all lists: names, descriptions, entries."""
    return f"""{opened(store)}
said = store.catalog.snapshot()
lists = said.lists.current
explanations = said.explanations.table
"""
