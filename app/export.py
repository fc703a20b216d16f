"""Taking things away: a table as a file, a page's data as the few lines of Python that give it."""

import csv
import io
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import streamlit as st

from feature_store.feature_table import FeatureQuery
from feature_store.records import FeatureId
from feature_store.strict_json import dump_json, null_nonfinite

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A text that begins so would be run by a spreadsheet."""


TYPES = {
    "HTML": "text/html",
    "CSV": "text/csv",
    "Parquet": "application/vnd.apache.parquet",
}
"""Kinds of files, and their media types."""


def menu(lines: str, files: Mapping[str, tuple[str, Callable[[], bytes]]] | None = None) -> None:
    """What can be taken from a page: its Python, and files, by kind as (name, content)."""
    with st.popover("Export", type="tertiary"):
        for kind, (name, content) in (files or {}).items():
            st.download_button(
                f"Download as {kind}",
                content,
                name,
                TYPES[kind],
                type="tertiary",
                on_click="ignore",
            )
        st.caption("Copy as Python: the same data without the page")
        st.code(lines, language="python")


def as_csv(table: pa.Table) -> bytes:
    """CSV in UTF-8. Texts that a spreadsheet would run as a formula get an apostrophe in front."""
    target = io.StringIO(newline="")
    out = csv.writer(target, lineterminator="\r\n")
    out.writerow([harmless(name) for name in table.column_names])
    columns = [column.to_pylist() for column in table.columns]
    out.writerows([cell(value) for value in row] for row in zip(*columns, strict=True))
    return target.getvalue().encode("utf-8", errors="replace")


def cell(value: Any) -> Any:
    """A value as CSV has it: nothing for NULL, numbers as they are, lists and structs as JSON."""
    if value is None or isinstance(value, bool | int | float | Decimal):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | dict):
        return dump_json(null_nonfinite(value), default=str)
    return harmless(str(value))


def harmless(text: str) -> str:
    """Text that is text in a spreadsheet too."""
    return f"'{text}" if text.startswith(FORMULA) else text


def as_parquet(table: pa.Table) -> bytes:
    """The table as a Parquet file, types kept."""
    target = io.BytesIO()
    pq.write_table(table, target)
    return target.getvalue()


def library_lines(store: Path) -> str:
    """The library's data: every harvest, every dictionary."""
    return f"""{opened(store)}
harvests = [file.record for file in store.harvests()]
dictionaries = [info for file in store.harvests() for info in file.dictionaries.values()]
"""


def table_lines(store: Path, harvest: str, dictionary: str, wanted: FeatureQuery) -> str:
    """The data of the table of features, as an Arrow table."""
    names = "FeatureQuery, order_features, read_feature_rows"
    return f"""{opened(store, f"from feature_store.feature_table import {names}")}
file = store.harvest({harvest!r})
annotations = store.catalog.snapshot()
wanted = {wanted!r}
features = order_features(file, {dictionary!r}, wanted, annotations)
table = read_feature_rows(file, {dictionary!r}, features, annotations=annotations)
"""


def feature_lines(store: Path, harvest: str, feature: FeatureId) -> str:
    """A feature's facts, contexts, and their tokens as text."""
    return f"""{opened(store, "from feature_store.records import FeatureId")}
file = store.harvest({harvest!r})
feature = file.payload(FeatureId({feature.dictionary!r}, {feature.index}))
facts, contexts, tokens = feature.facts, feature.contexts, feature.tokens
"""


def sql_lines(store: Path, harvest: str, sql: str) -> str:
    """A query's answer, as an Arrow table."""
    plain = "\\" not in sql and '"""' not in sql and not sql.endswith('"')
    written = f'"""{sql}"""' if plain and "\r" not in sql else repr(sql)
    return f"""{opened(store, "from feature_store.sql_console import run_query")}
table = run_query(store, {harvest!r}, {written}).table
"""


def opened(store: Path, also: str | None = None) -> str:
    """The first lines: imports, and the store."""
    imports = sorted(filter(None, ["from feature_store.store import Store", also]))
    return "\n".join(
        ["from pathlib import Path", "", *imports, "", f"store = Store(Path({str(store)!r}))"]
    )
