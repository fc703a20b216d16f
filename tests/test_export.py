"""What leaves the pages: Python that gives the same data, tables as files, a feature as HTML."""

import csv
import io
from datetime import datetime
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app import columns, export, sheet
from app.panels.panel_context import PanelContext
from app.session import Place
from feature_store import feature_table
from feature_store.feature_table import FeatureQuery
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.stores import DEAD, make_store

HARVEST = "tiny-0001"
EVIL = """</script><script>alert("x")</script><b onclick='y'>&amp;"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("export") / "a 'quoted' \"store\"")


def subject(store: Store, feature: str) -> PanelContext:
    wanted = FeatureId.parse(feature)
    file = store.harvest(HARVEST, wanted.dictionary)
    return PanelContext.read(Place(file, file.dictionary(wanted.dictionary)), wanted)


def executed(lines: str) -> dict:
    found: dict = {}
    exec(lines, found)
    return found


def test_the_librarys_lines_give_its_rows(store: Store) -> None:
    found = executed(export.library_lines(store.path))
    assert [harvest.id for harvest in found["harvests"]] == [HARVEST]
    assert [info.dictionary for info in found["dictionaries"]] == ["resid", "abs"]


def test_the_tables_lines_give_its_rows(store: Store) -> None:
    wanted = FeatureQuery((("n_active", 1.0, None), ("max_act", 10.0, None)), order="max_act")
    found = executed(export.table_lines(store.path, HARVEST, "abs", wanted))
    between = {"n_active": (1, float("inf")), "max_act": (10, float("inf"))}
    held = store.harvest(HARVEST).feature_table("abs", between=between, order="max_act")
    assert found["table"].column("feature").equals(held.column("feature"))
    assert 0 < found["table"].num_rows < 39


def test_a_table_that_is_taken_away_has_tokens_as_texts(store: Store) -> None:
    file = store.harvest(HARVEST)
    found = columns.spelled(feature_table.read_feature_rows(file, "abs", [3, 1]), file.vocabulary)
    facts, text = file.facts(FeatureId("abs", 3)), file.vocabulary.text
    assert found["feature"].to_pylist() == [3, 1]
    assert found["promoted"][0].as_py() == [text(i) for i in facts.promoted_tokens or []]
    assert all(isinstance(one, str | None) for one in found["top_token"].to_pylist())
    assert export.as_csv(found).count(b"\r\n") == 3


def test_a_features_lines_give_its_page(store: Store) -> None:
    wanted = FeatureId("abs", 3)
    found = executed(export.feature_lines(store.path, HARVEST, wanted))
    payload = store.harvest(HARVEST).payload(wanted)
    assert (found["facts"], found["contexts"]) == (payload.facts, payload.contexts)
    assert found["tokens"] == payload.tokens


@pytest.mark.process
@pytest.mark.parametrize("text", ["a", 'b"', "c\\d", '"""', "e\r\nf"])
def test_a_querys_lines_ask_the_same(store: Store, text: str) -> None:
    found = executed(export.sql_lines(store.path, HARVEST, f"SELECT '{text}' AS \"x\""))
    assert found["table"].to_pylist() == [{"x": text}]


def test_a_spreadsheet_runs_nothing() -> None:
    texts = ["=1+1", "+1", "-1", "@a", "\tx", "\rx", "a=1", "", None, 'say "so", \n twice']
    table = pa.table({"=head": texts, "number": list(range(-5, 5))})
    rows = list(csv.reader(io.StringIO(export.as_csv(table).decode(), newline="")))
    assert rows[0] == ["'=head", "number"]
    assert [row[0] for row in rows[1:7]] == ["'=1+1", "'+1", "'-1", "'@a", "'\tx", "'\rx"]
    assert [row[0] for row in rows[7:]] == ["a=1", "", "", 'say "so", \n twice']
    assert [int(row[1]) for row in rows[1:]] == list(range(-5, 5))


def test_every_kind_of_value_has_a_cell() -> None:
    assert export.cell(b"\xe2\x82") == "e282"
    assert export.cell([1.5, None, "é"]) == '[1.5, null, "é"]'
    assert export.cell({"a": datetime(2026, 1, 2)}) == '{"a": "2026-01-02 00:00:00"}'
    assert export.cell(Decimal("-1.5")) == Decimal("-1.5")


def test_parquet_gives_the_table_back(store: Store) -> None:
    table = store.harvest(HARVEST).feature_table("abs")
    assert pq.read_table(io.BytesIO(export.as_parquet(table))).equals(table)


class Seen(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_sheet_is_whole_and_every_text_is_text(store: Store) -> None:
    """Corpus text, tokens of the logits, label and note: nothing of them becomes markup."""
    seen = Seen(sheet.page(subject(store, "abs/3"), {"label": EVIL, "note": EVIL}).decode())
    text = "".join(seen.texts)
    assert text.count(EVIL) == 2 and " <script>alert(1)</script>" in text and " &amp;" in text
    assert not seen.tags & {"script", "b", "img", "link", "iframe", "object"}
    assert not {name for name in seen.names if name.startswith("on")} | (seen.names & {"src"})
    for expected in ("abs/3", "Facts", "promotes", "Strongest windows", "Decile 9", "tiny-0001"):
        assert expected in text


def test_the_sheet_of_a_dead_feature_says_so(store: Store) -> None:
    page = sheet.page(subject(store, f"resid/{DEAD}"), {}).decode()
    assert "never fired in 1\u202f410 tokens" in page and "Contexts" not in page


def test_a_files_name_is_a_files_name(store: Store) -> None:
    place = subject(store, "resid/3").place
    odd = PanelContext(
        place, FeatureId("../gpt2/8-res <jb>", 3), place.file.facts(FeatureId("resid", 3)), []
    )
    assert sheet.file_name(odd) == "-gpt2-8-res--jb--3.html"
    assert Path(sheet.file_name(odd)).name == sheet.file_name(odd)
