"""Labels, lists and explanations as files: they come back as they left, or not at all."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store import feature_list_edits as edits
from feature_store.catalog import Catalog
from feature_store.errors import InputError
from feature_store.exchange.import_rows import ROW_SCHEMAS, RowKind, check_rows
from feature_store.exchange.import_writer import save_import, withdraw_explanations
from feature_store.exchange.saefari_files import FORMATS, collect_rows, decode_rows, encode_rows
from feature_store.records import FeatureId

A, B = FeatureId("resid", 3), FeatureId("a/b", 0)
MARKUP = "<script>alert(1)</script> =1+1 \u202e“é”"
SIZES = {"resid": 40}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog.duckdb")


def filled(catalog: Catalog) -> Catalog:
    catalog.annotate(A, "label", MARKUP)
    catalog.annotate(A, "star", "1")
    catalog.annotate(B, "note", "one\n\n two")
    one = edits.create_list(catalog, MARKUP, "why\nnot")
    edits.add_features(catalog, one, [B, A])
    edits.write_note(catalog, one, A, "the second\nof two")
    edits.create_list(catalog, "empty")
    save_import(catalog, check_rows("explanations", [explanation()], "rows"))
    return catalog


def explanation(**changes: object) -> dict:
    usual = {
        "dictionary": "resid",
        "feature": 3,
        "text": "mentions of dogs",
        "explainer": "tokens",
        "model": "some-model",
        "author": "model",
        "provenance": '{"source": "elsewhere"}',
    }
    return {**usual, **changes}


def label(**changes: object) -> dict:
    return {"dictionary": "resid", "feature": 3, "kind": "label", "value": "dogs", **changes}


@pytest.mark.parametrize("kind", FORMATS)
def test_everything_comes_back_as_it_left(catalog: Catalog, tmp_path: Path, kind: str) -> None:
    filled(catalog)
    other = Catalog(tmp_path / "other.duckdb")
    for what in ROW_SCHEMAS:
        table = collect_rows(what, catalog.snapshot())
        assert table.num_rows
        found = decode_rows(encode_rows(what, table, kind), "file", SIZES)
        assert found.kind == what and save_import(other, found).new == table.num_rows
        assert collect_rows(what, other.snapshot()).equals(table)


def test_the_same_twice_changes_nothing(catalog: Catalog) -> None:
    said = filled(catalog).snapshot()
    for what in ROW_SCHEMAS:
        table = collect_rows(what, said)
        taken = save_import(catalog, decode_rows(encode_rows(what, table, "json"), "file"))
        assert (taken.new, taken.same) == (0, table.num_rows)
    again = catalog.snapshot()
    assert (
        again.all_rows.equals(said.all_rows) and again.explanations.last == said.explanations.last
    )
    assert again.lists.headings == said.lists.headings
    assert again.lists.entries == said.lists.entries


def test_a_label_from_a_file_is_the_last_word_and_the_former_is_history(catalog: Catalog) -> None:
    catalog.annotate(A, "label", "cats")
    save_import(catalog, check_rows("labels", [label()], "file"))
    assert [one.value for one in catalog.history(A)] == ["cats", "dogs"]


def test_a_list_from_a_file_is_merged_with_what_is_there(catalog: Catalog) -> None:
    one = edits.create_list(catalog, "dogs")
    edits.add_features(catalog, one, [A])
    file = encode_rows("lists", collect_rows("lists", catalog.snapshot()), "json")
    edits.remove_features(catalog, one, [A])
    edits.add_features(catalog, one, [B])
    edits.delete_list(catalog, one)
    save_import(catalog, decode_rows(file, "file"))
    found = catalog.snapshot().lists.get(one)
    assert found.features == [B, A] and not found.deleted


WRONG: list[tuple[RowKind, dict, str]] = [
    ("labels", label(feature=40), "resid has features 0 to 39, not 40"),
    ("labels", label(feature=-1), "feature -1 is not an index"),
    ("labels", label(feature=True), "feature True is not an index"),
    ("labels", label(feature="3"), "feature '3' is not an index"),
    ("labels", label(dictionary=""), "dictionary is empty"),
    ("labels", label(kind="heart"), "kind 'heart' must be"),
    ("labels", label(kind="star"), "a star's value is 1"),
    ("labels", label(value=""), "value is empty"),
    ("labels", label(value="a\nb"), "on one line"),
    ("labels", label(value="x" * 201), "label has 201 characters; at most 200 are allowed"),
    ("labels", label(value=None), "value None is not a text"),
    ("labels", label(more=1), "'more' is not known; there are dictionary"),
    ("labels", {"dictionary": "resid"}, "'feature' is missing"),
    ("explanations", explanation(text=" "), "text is empty"),
    ("explanations", explanation(author="dog"), "author 'dog' is neither"),
    ("explanations", explanation(provenance="{"), "provenance is not JSON"),
    ("explanations", explanation(provenance="[]"), "provenance is not a JSON object"),
]


@pytest.mark.parametrize(("what", "row", "sentence"), WRONG)
def test_a_wrong_row_is_named_and_nothing_is_imported(
    catalog: Catalog, what: RowKind, row: dict, sentence: str
) -> None:
    good = label() if what == "labels" else explanation()
    data = json.dumps({"saefari": what, "version": 1, "rows": [good, row]}).encode()
    with pytest.raises(InputError) as caught:
        save_import(catalog, decode_rows(data, "mine.json", SIZES))
    assert "mine.json, row 2: " in str(caught.value) and sentence in str(caught.value)
    assert "Nothing was imported" in str(caught.value) and not catalog.path.exists()


LIST = {
    "list": "abc",
    "name": "dogs",
    "description": "",
    "dictionary": None,
    "feature": None,
    "note": "",
}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "cats"}, "it contradicts row 1"),
        ({"list": "a/b"}, "list 'a/b' is not an id"),
        ({"feature": 3}, "dictionary and feature must be given together"),
        ({"list": "x", "name": " "}, "name is empty"),
    ],
)
def test_a_wrong_row_of_a_list_is_named(changes: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=f"file, row 2: {sentence}"):
        check_rows("lists", [LIST, {**LIST, **changes}], "file")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b'{"saefari": "labels",\n "rows": [}', "f, line 2, column 11: Expecting value"),
        (b'{"saefari": "labels", "version": 1}', 'f has no "rows"'),
        (b'{"saefari": "cats", "version": 1}', 'f holds "cats"; there are: labels, lists, expl'),
        (b'{"saefari": "labels", "version": 9}', "f has version 9, and this Saefari reads 1"),
        (b'{"labels": []}', "f is not a file that Saefari can import"),
        (b"[1, 2]", "f is not a file that Saefari can import"),
        (b"\n\xff", "f, line 2: it is not UTF-8"),
        (b"", "f, line 1, column 1: Expecting value"),
        (b"[" * 200_000, "nested too deeply"),
        (b"PAR1 and no more", "f is a damaged Parquet file"),
        (b'{"saefari": "labels", "version": 1, "rows": [7]}', "row 1: it is not an object"),
    ],
)
def test_a_malformed_file_gets_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        decode_rows(data, "f")


def test_a_parquet_file_of_somebody_else_is_not_taken_for_ours() -> None:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.table({"x": [1]}), sink)
    with pytest.raises(InputError, match="is not a file that Saefari can import"):
        decode_rows(sink.getvalue().to_pybytes(), "f")


def test_what_is_withdrawn_is_kept_and_comes_back(catalog: Catalog) -> None:
    rows = [explanation(), explanation(feature=5), explanation(model="other")]
    file = check_rows("explanations", rows, "file")
    save_import(catalog, file)
    assert withdraw_explanations(catalog, "resid", "tokens", "some-model") == 2
    assert [one.model for one in catalog.snapshot().explanations.of_feature(A)] == ["other"]
    assert withdraw_explanations(catalog, "resid", "tokens", "some-model") == 0
    assert save_import(catalog, file).new == 2
    assert set(catalog.snapshot().explanations.texts_by_feature("resid")) == {3, 5}


def test_explanations_stand_beside_the_persons_label_and_are_found(catalog: Catalog) -> None:
    said = filled(catalog).snapshot()
    assert said.values_of_feature(A)["label"] == MARKUP
    assert said.explanations.texts_by_feature("resid") == {3: ["mentions of dogs"]}
    (found,) = said.explanations.of_feature(A)
    assert found.source == "elsewhere" and said.explanations.of_feature(B) == []
    assert [key for key, _ in said.explanation_index.find("dgos", ["resid"])] == [("resid", 3)]


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip)


@settings(max_examples=50)
@given(rows=st.lists(st.builds(explanation, feature=st.integers(0, 39), text=texts), max_size=5))
def test_any_text_survives_both_formats(rows: list[dict]) -> None:
    want = pa.Table.from_pylist(rows, ROW_SCHEMAS["explanations"])
    for kind in FORMATS:
        assert decode_rows(encode_rows("explanations", want, kind), "f", SIZES).table.equals(want)
