"""`saefari export` and `saefari import`: what they write, say and refuse."""

import json
from pathlib import Path

import pytest

from feature_store import feature_list_edits as edits
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.commands import answer, data, refusal
from tests.stores import DEAD, make_store

MARKUP = "</title><script>alert(1)</script>"
A = FeatureId("resid", 3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = make_store(tmp_path / "store")
    found.catalog.annotate(A, "label", MARKUP)
    return found


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_labels_travel_to_another_store(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    file, other = str(tmp_path / "labels"), str(make_store(tmp_path / "other").path)
    export = ["export", "--store", str(store.path), "--what", "labels"]
    assert "1 row of labels" in answer([*export, "--format", kind, "--out", file], capsys)
    assert data(["import", "--store", other, file], capsys) == {
        "what": "labels",
        "new": 1,
        "same": 0,
        "left_out": [],
    }
    again = answer(["import", "--store", other, file], capsys)
    assert again == "0 rows of labels imported; 1 row was there already.\n"
    assert Store(Path(other)).catalog.snapshot().values_of_feature(A) == {"label": MARKUP}


def test_a_list_becomes_one_page(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = edits.create_list(store.catalog, MARKUP, MARKUP)
    there = [A, FeatureId("abs", 4), FeatureId("resid", DEAD), FeatureId("gone", 1)]
    edits.add_features(store.catalog, one, there)
    edits.write_note(store.catalog, one, A, MARKUP)
    words = ["export", "--store", str(store.path), "--what", "lists", "--format", "html"]
    answer([*words, "--list", one, "--out", str(tmp_path / "x.html")], capsys)
    html = (tmp_path / "x.html").read_text("utf-8")
    assert "<script" not in html and html.count("&lt;script&gt;alert(1)") >= 5
    assert html.count('<h2 class="feature"') == 4 and "This feature never fired" in html
    assert "No harvest in" in html and "default-src &#x27;none&#x27;" not in html
    assert "http" not in html.replace("http-equiv", "")


def test_dashboards_are_written_and_their_explanations_read(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "layers.1_latent3.txt").write_text(json.dumps("dogs"))
    where = ["--store", str(store.path)]
    said = answer(["import", *where, str(run), "--dictionary", "resid"], capsys)
    assert said == "1 row of explanations imported.\n"
    words = ["--what", "dashboards", "--dictionary", "resid", "--source", "tiny/1-mine"]
    told = answer(["export", *where, *words, "--out", str(tmp_path / "dump")], capsys)
    assert "40 features" in told and "1 explanation in" in told
    dump = ["import", *where, str(tmp_path / "dump/tiny/1-mine"), "--dictionary", "1-mine=resid"]
    assert "1 row was there already" in answer(dump, capsys)


def test_refusals_say_what_would_work(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        return refusal([words[0], "--store", str(store.path), *words[1:]], capsys)

    out = ["--out", str(tmp_path / "x")]
    html = ["--format", "html"]
    said = refused("export", "--what", "labels", *html, *out)
    assert said == "labels cannot be exported as html. There are: json, parquet."
    assert "Give --list ID" in refused("export", "--what", "lists", *html, *out)
    assert "There is no list 'x'" in refused("export", "--what", "lists", "--list", "x", *out)
    assert "--list works only with" in refused("export", "--what", "labels", "--list", "x", *out)
    assert "Give --dictionary" in refused("export", "--what", "dashboards", *out)
    assert "cannot be written" in refused("export", "--what", "labels", "--out", str(tmp_path))
    assert "There is nothing at" in refused("import", str(tmp_path / "none"))
    (tmp_path / "bad.json").write_text('{"saefari": "labels", "version": 1, "rows": [\n{}]}')
    assert "bad.json, row 1: 'dictionary' is missing" in refused(
        "import", str(tmp_path / "bad.json")
    )
    assert store.catalog.snapshot().values_of_feature(A) == {"label": MARKUP}
