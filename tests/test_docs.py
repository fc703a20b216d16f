"""The documentation says what there is: commands, options, tables, columns; and its links hold."""

import re
import subprocess
from pathlib import Path

import click
import duckdb
import pytest

from app.cli import saefari
from feature_store.catalog import apply_migrations
from feature_store.harvest_writer import SCHEMA_FILE

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINKED = [*PAGES, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md"))]
TEXT = "\n".join(page.read_text("utf-8") for page in PAGES)
DATA = (ROOT / "docs" / "data.md").read_text("utf-8")
COMMANDS: dict[str, click.Command] = saefari.commands
OPTIONS = sorted(
    {
        max(option.opts, key=len)
        for command in [saefari, *COMMANDS.values()]
        for option in command.params
        if isinstance(option, click.Option) and option.name not in ("help", "version")
    }
)
HOSTS = {
    "127.0.0.1",
    "api.openai.com",
    "arxiv.org",
    "github.com",
    "graphml.graphdrawing.org",
    "huggingface.co",
    "openrouter.ai",
    "pytorch.org",
    "www.apache.org",
    "www.w3.org",
}
"""Where texts and code may link to. A package index or a machine of somebody's is never one."""
PLACES = re.compile(r"(?<![\w.$}])/(?:home|root|Users|work|opt|mnt|srv|var/folders)/\w")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    assert re.search(rf"`saefari {command}\b", TEXT)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_documented(option: str) -> None:
    assert re.search(rf"(?<![\w-]){option}(?![\w-])", TEXT)


def test_no_option_is_documented_that_is_not_there() -> None:
    """In lines that show a command of ours, and in code of one option."""
    shown = re.findall(r"saefari \w[^`]*?(?=`|\n\S|\n\n)", TEXT) + re.findall(r"`(--[^`]*)`", TEXT)
    named = {option for line in shown for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", line)}
    assert named - {*OPTIONS, "--help", "--version"} == set()


def columns(db: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """Every table's columns, in order."""
    found: dict[str, list[str]] = {}
    query = "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
    for table, column in db.execute(query).fetchall():
        found.setdefault(table, []).append(column)
    return found


def documented() -> dict[str, list[str]]:
    """The columns in docs/data.md: a heading per table, a row per column."""
    found: dict[str, list[str]] = {}
    for part in re.split(r"^### ", DATA, flags=re.M)[1:]:
        table, _, rest = part.partition("\n")
        rows = re.findall(r"^\| `(\w+)` \| \S", rest.partition("\n## ")[0], flags=re.M)
        assert len(rows) == len(set(rows)), table
        found[table.strip()] = sorted(rows)
    return found


def test_every_table_and_column_is_documented_and_no_other() -> None:
    with duckdb.connect() as db:
        db.execute(SCHEMA_FILE.read_text("utf-8"))
        harvest = columns(db)
    with duckdb.connect() as db:
        apply_migrations(db, Path("catalog.duckdb"))
        catalog = columns(db)
    assert documented() == harvest | catalog


def test_every_part_of_a_struct_is_documented() -> None:
    parts = re.findall(r"(\w+) STRUCT\(([^)]*)\)", SCHEMA_FILE.read_text("utf-8"))
    assert parts
    alike = {"negative": "positive", "writes": "reads"}
    for column, part in parts:
        start = f"| `{alike.get(column, column)}`"
        row = next(line for line in DATA.splitlines() if line.startswith(start))
        names = [name.split()[0].strip('"') for name in part.split(",")]
        assert re.findall(r"`(\w+)`", row)[1 : len(names) + 1] == names


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    paths = [link.partition("#")[0] for link in links if "://" not in link]
    assert [path for path in paths if path and not (page.parent / path).exists()] == []


def tracked() -> dict[str, str]:
    """Every text file of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout, so what belongs to it is not known")
    found = {}
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith("app/vendor/"):  # others' files, unmodified
            continue
        data = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b"\0"
        if b"\0" not in data[:4096]:
            found[name] = data.decode("utf-8")
    return found


def test_no_file_names_a_machine_or_a_package_index() -> None:
    texts = tracked()
    assert "README.md" in texts
    places = {name: PLACES.findall(text) for name, text in texts.items()}
    assert {name: hits for name, hits in places.items() if hits} == {}
    hosts = re.findall(r"https?://([\w-]+\.[\w.-]+\w)", "\n".join(texts.values()))
    assert set(hosts) - HOSTS == set()
