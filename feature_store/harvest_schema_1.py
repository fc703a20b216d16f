"""Schema 1 of harvest files, which still opens: one hook point read and one written, as two texts.

Since schema 2 the table `dictionary` has a list of read sites and one of write sites instead of the
columns `hook_name` and `hook_out`. Nothing else differs.
"""

from collections.abc import Sequence
from typing import Any

from feature_store.hook_sites import ReadSite, WriteSite

CHANGES_TO_SCHEMA_1 = (
    "ALTER TABLE dictionary DROP COLUMN reads",
    "ALTER TABLE dictionary DROP COLUMN writes",
    "ALTER TABLE dictionary ADD COLUMN hook_name VARCHAR",
    "ALTER TABLE dictionary ADD COLUMN hook_out VARCHAR",
)
"""SQL statements that turn the empty tables of the current schema into those of schema 1."""

ON_SHUFFLED_MODEL = "CASE WHEN architecture = 'null-shuffled' THEN 'shuffled' ELSE '' END"
SITE_EXPRESSIONS = {
    "reads": f"[{{'hook': hook_name, 'start': 0, 'stop': d_in, 'model': {ON_SHUFFLED_MODEL}}}]",
    "writes": f"[{{'hook': hook_out, 'start': 0, 'stop': d_out, 'model': {ON_SHUFFLED_MODEL}}}]",
}
"""SQL expressions that give the read and write sites of a dictionary in a harvest of schema 1."""


def select_list(names: Sequence[str], schema: int) -> str:
    """Return the SQL select list of these columns of a harvest's `dictionary` table; in schema 1,
    read and write sites are made from the two hook names."""
    if schema > 1:
        return ", ".join(names)
    return ", ".join(
        f"{SITE_EXPRESSIONS[name]} AS {name}" if name in SITE_EXPRESSIONS else name
        for name in names
    )


def parse_sites(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of a harvest's `dictionary` table with its read and write sites as records."""
    return row | {
        "reads": tuple(ReadSite(**site) for site in row["reads"]),
        "writes": tuple(WriteSite(**site) for site in row["writes"]),
    }
