"""Explanations of Neuronpedia and delphi: found, named after our dictionaries, or refused whole."""

import gzip
import json
from pathlib import Path

import pytest

from feature_store.errors import InputError
from feature_store.exchange.dictionary_names import DictionaryNames, parse_dictionary_names
from feature_store.exchange.failed_explanations import find_failure_kind
from feature_store.exchange.import_reader import read_import_bytes, read_import_path
from tests.foreign_files import spoil_file

SIZES = {"resid": 40, "mlp": 8}


def line(**changes: object) -> dict:
    usual = {
        "id": "c1",
        "modelId": "tiny",
        "layer": "1-res",
        "index": "3",
        "authorId": "somebody",
        "description": " mentions of dogs ",
        "embedding": "[0.0, 1.0]",
        "typeName": "oai_token-act-pair",
        "explanationModelName": "some-model",
    }
    return {**usual, **changes}


def packed(rows: list[dict]) -> bytes:
    return gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def names(*words: str) -> DictionaryNames:
    return DictionaryNames(SIZES, parse_dictionary_names(words)).check()


def rows(found) -> list[tuple]:
    return [(r["dictionary"], r["feature"], r["text"]) for r in found.table.to_pylist()]


def test_a_dump_of_neuronpedia_is_read(tmp_path: Path) -> None:
    (tmp_path / "explanations").mkdir()
    (tmp_path / "source.jsonl").write_text("{}")
    for number in (0, 1):
        path = tmp_path / "explanations" / f"batch-{number}.jsonl.gz"
        path.write_bytes(packed([line(index=str(number)), line(index=number + 5, description="")]))
    found = read_import_path(tmp_path, names("resid"))
    assert rows(found) == [("resid", 0, "mentions of dogs"), ("resid", 1, "mentions of dogs")]
    assert found.left_out == ("2 failed explanations (empty)",)
    row = found.table.to_pylist()[0]
    assert (row["explainer"], row["model"]) == ("oai_token-act-pair", "some-model")
    assert row["author"] == "model"
    said = {"source": "neuronpedia", "model": "tiny", "layer": "1-res", "id": "c1"}
    assert json.loads(row["provenance"]) == said


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.jsonl.gz"])
def test_a_feature_brings_its_explanations(tmp_path: Path, name: str) -> None:
    feature = {
        "modelId": "tiny",
        "layer": "1-res",
        "index": "3",
        "pos_str": ["a"],
        "explanations": [{"description": "dogs", "typeName": "t"}, {"description": "cats"}],
    }
    other = {"modelId": "tiny", "layer": "1-res", "index": "4", "maxActApprox": 2.0}
    whole = json.dumps([feature, other]).encode()
    parts = f"{json.dumps(feature)}\n\n{json.dumps(other)}".encode()
    data = whole if name == "x.json" else gzip.compress(parts) if name.endswith("gz") else parts
    (tmp_path / name).write_bytes(data)
    found = read_import_path(tmp_path / name, names("resid"))
    assert rows(found) == [("resid", 3, "dogs"), ("resid", 3, "cats")]
    assert found.left_out == ("1 features without an explanation",)
    assert read_import_bytes(data, name, names("resid")).table.equals(found.table)


def test_sources_are_told_apart_by_the_person_or_by_name() -> None:
    both = b"".join(json.dumps(line(layer=layer)).encode() + b"\n" for layer in ("1-res", "mlp"))
    found = read_import_bytes(both, "x.jsonl", names("tiny/1-res=resid"))
    assert [row[0] for row in rows(found)] == ["resid", "mlp"]
    with pytest.raises(InputError, match=r"x\.jsonl, line 2: there are several sources here"):
        read_import_bytes(both, "x.jsonl", names("resid"))
    with pytest.raises(InputError, match=r"line 1: it is about tiny/1-res, and no dictionary"):
        read_import_bytes(both, "x.jsonl", names())


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (line(index="40"), "line 2: resid has features 0 to 39, not 40"),
        (line(index="-1"), "line 2: index '-1' is not a whole number"),
        (line(index="9" * 30), "is not a whole number"),
        ({"description": "dogs"}, "line 2: 'modelId' is missing"),
        ({"modelId": 1}, "line 2: it is not an explanation of Neuronpedia"),
        ([1], "line 2: it is not an object"),
    ],
)
def test_a_wrong_line_is_named(second: object, sentence: str) -> None:
    data = f"{json.dumps(line())}\n{json.dumps(second)}\n".encode()
    with pytest.raises(InputError, match=sentence) as caught:
        read_import_bytes(data, "x.jsonl", names("resid"))
    assert str(caught.value).endswith("Nothing was imported.")


def test_damaged_files_get_a_sentence() -> None:
    for data, sentence in [
        (b"{}\n{", "x.jsonl, line 1: it is not an explanation"),
        (json.dumps(line()).encode() + b"\n{", "x.jsonl, line 2, column 2"),
        (packed([line()] * 50)[:-20], "cannot be unpacked"),
        (b"\x1f\x8bnot", "cannot be unpacked"),
        (b"\xff\xfe{", "x.jsonl, line 1: it is not UTF-8"),
    ]:
        with pytest.raises(InputError, match=sentence):
            read_import_bytes(data, "x.jsonl", names("resid"))


def delphi_run(folder: Path) -> Path:
    (folder / "explanations").mkdir(parents=True)
    (folder / "run_config.json").write_text('{"explainer_model": "some/model"}')
    for hook, latent, text in [("layers.1", 3, "dogs"), ("layers.1", 12, ""), ("mlp", 0, "a\ncat")]:
        path = folder / "explanations" / f"{hook}_latent{latent}.txt"
        path.write_bytes(json.dumps(text).encode())
    return folder


def test_explanations_of_delphi_are_read(tmp_path: Path) -> None:
    run = delphi_run(tmp_path / "run")
    found = read_import_path(run, names("layers.1=resid"))
    assert rows(found) == [("resid", 3, "dogs"), ("mlp", 0, "a\ncat")]
    assert found.left_out == ("1 failed explanation (empty)",)
    row = found.table.to_pylist()[0]
    assert (row["explainer"], row["model"]) == ("delphi", "some/model")
    assert read_import_path(run / "explanations", names("layers.1=resid")).table.equals(found.table)


def test_a_wrong_file_of_delphi_is_named(tmp_path: Path) -> None:
    run = delphi_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"mlp_latent0\.txt: there are several sources"):
        read_import_path(run, names("resid"))
    (run / "explanations" / "layers.1_latent5.txt").write_text("dogs")
    with pytest.raises(InputError, match=r"layers\.1_latent5\.txt: it is not JSON"):
        read_import_path(run, names("layers.1=resid"))
    (run / "explanations" / "layers.1_latent5.txt").write_text("[1]")
    with pytest.raises(InputError, match=r"layers\.1_latent5\.txt: it holds no text"):
        read_import_path(run, names("layers.1=resid"))


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b")
    with pytest.raises(InputError, match="holds neither explanations of delphi"):
        read_import_path(tmp_path, names())
    with pytest.raises(InputError, match="There is nothing at"):
        read_import_path(tmp_path / "none", names())
    with pytest.raises(InputError, match="x.csv, line 1, column 1"):
        read_import_path(tmp_path / "x.csv", names())
    with pytest.raises(InputError, match=r"No dictionary called 'dogs'\. There are: mlp, resid"):
        names("dogs")
    with pytest.raises(InputError, match="gives two names for x: a and b"):
        parse_dictionary_names(("x=a", "x=b"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Explanation could not be parsed.", "not parsed"),
        ('"Explanation could not be parsed."', "not parsed"),
        ("The response could not be parsed: {", "not parsed"),
        ("Failed to generate an explanation", "not parsed"),
        ("Error while parsing the response: line 1", "not parsed"),
        ("", "empty"),
        (" \n", "empty"),
        ("N/A", "empty"),
        ("n/a.", "empty"),
        ("[None]", "empty"),
        ("null", "empty"),
        ("nan", "empty"),
        ("No explanation found.", "empty"),
        ("...", "empty"),
        ("Error", "empty"),
        ("Error code: 429 - {'error': {'message': 'Rate limit'}}", "an error instead"),
        ("openai.RateLimitError: too many", "an error instead"),
        ("Traceback (most recent call last):\n  File", "an error instead"),
        ("JSONDecodeError(Expecting value)", "an error instead"),
        ("<html><body>502 Bad Gateway</body></html>", "an error instead"),
        ("503 Service Unavailable", "an error instead"),
        ("Request timed out.", "an error instead"),
        ('{"error": "model not found"}', "an error instead"),
        ("I'm sorry, but I can't help with that.", "refused"),
        ("As an AI language model, I cannot", "refused"),
        ("I\u2019m sorry, I cannot determine what this neuron does", "refused"),
    ],
)
def test_what_is_no_explanation_is_known(text: str, kind: str) -> None:
    assert find_failure_kind(text) == kind


@pytest.mark.parametrize(
    "text",
    [
        "cats",
        "e0",
        "error messages in logs",
        "the word error",
        "errors and exceptions",
        "404 pages and other web errors",
        "500 miles away",
        "null values in code",
        "nothing",
        "no",
        "not",
        "phrases such as I'm sorry",
        "parsing of dates",
        "the token None in Python",
        "unable to do something",
        "timeouts and retries",
        "references to N/A in tables",
        "\U0001f600",
        "Traceback lines of Python",
        "connection words such as and",
        "explanation of rules",
        "exception: rules that have one",
        "unknown persons in novels",
        ",;",
        "rate limits",
    ],
)
def test_explanations_about_failures_are_explanations(text: str) -> None:
    assert find_failure_kind(text) is None


def test_failures_are_counted_and_the_rest_is_imported(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "explanations"
    folder.mkdir(parents=True)
    texts = ["cats", "Explanation could not be parsed.", "", "Explanation could not be parsed."]
    for number, text in enumerate(texts):
        (folder / f"layers.1_latent{number}.txt").write_text(json.dumps(text))
    for scorer in ("detection", "fuzz"):
        (tmp_path / "run" / "scores" / scorer).mkdir(parents=True)
        (tmp_path / "run" / "scores" / scorer / "layers.1_latent0.txt").write_text("[]")
    for given in (tmp_path / "run", folder):
        found = read_import_path(given, names("resid"))
        assert [row[2] for row in rows(found)] == ["cats"]
        assert found.left_out[:2] == (
            "2 failed explanations (not parsed, for example 'Explanation could not be parsed.')",
            "1 failed explanation (empty)",
        )
        assert [one.partition(" (")[0] for one in found.left_out[2:]] == [
            "1 scores by delphi's detection",
            "1 scores by delphi's fuzz",
        ]
    data = b"".join(json.dumps(line(description=text)).encode() + b"\n" for text in texts)
    found = read_import_bytes(data, "x.jsonl", names("resid"))
    assert len(rows(found)) == 1 and found.left_out == (
        "2 failed explanations (not parsed, for example 'Explanation could not be parsed.')",
        "1 failed explanation (empty)",
    )


def test_explanations_inside_a_row_say_themselves_what_they_are_of() -> None:
    """An export of a whole dictionary has modelId and saeId outside, the index inside."""
    inner = {"modelId": "tiny", "layer": "1-res", "index": "5", "description": "fifth"}
    whole = {
        "modelId": "tiny",
        "saeId": "1-res",
        "explanationsCount": 2,
        "explanations": [inner, {"index": 6, "description": "sixth"}],
    }
    found = read_import_bytes(json.dumps(whole).encode(), "x.json", names("resid"))
    assert [row[:3] for row in rows(found)] == [("resid", 5, "fifth"), ("resid", 6, "sixth")]
    whole["explanations"][0]["layer"] = "2-res"
    with pytest.raises(InputError, match=r"'layer' is '1-res' and '2-res' in one of its expl"):
        read_import_bytes(json.dumps(whole).encode(), "x.json", names("resid"))
    del whole["explanations"][1]["index"]
    whole["explanations"][0]["layer"] = "1-res"
    with pytest.raises(InputError, match="'index' is missing"):
        read_import_bytes(json.dumps(whole).encode(), "x.json", names("resid"))


def test_every_malformed_file_of_explanations_is_refused_or_read(tmp_path: Path) -> None:
    """Of Neuronpedia, delphi and ours: rows to keep, or a sentence that names the file."""
    good = {
        "np.json": [line() | {"typeName": "oai", "explanationModelName": "gpt", "id": "c1"}],
        "np.jsonl": line(),
        "whole.json": {"modelId": "tiny", "saeId": "1-res", "explanations": [line(layer="1-res")]},
        "layers.1_latent0.txt": {"explanation": "cats"},
        "ours.json": {
            "saefari": "labels",
            "version": 1,
            "rows": [{"dictionary": "resid", "feature": 1, "kind": "label", "value": "cats"}],
        },
        "lists.json": {
            "saefari": "lists",
            "version": 1,
            "rows": [
                {
                    "list": "a1",
                    "name": "n",
                    "description": "d",
                    "dictionary": "resid",
                    "feature": 1,
                    "note": "",
                }
            ],
        },
    }
    for name, content in good.items():
        refused = 0
        path = tmp_path / name
        for what in spoil_file(path, content):
            try:
                given = path.parent if name.endswith(".txt") else path
                found = read_import_path(given, names("resid"))
                for one in found.table.to_pylist():
                    json.dumps(one, ensure_ascii=False).encode()
            except InputError as error:
                refused += 1
                assert name in str(error) or what == "a folder", (name, what, str(error))
        assert refused > 20, name
        path.unlink()


def test_the_cases_of_explanations_are_read(cases: Path) -> None:
    delphi = read_import_path(cases / "delphi_unparsed", names("resid"))
    assert [row[2] for row in rows(delphi)] == ["cats"] and "not parsed" in delphi.left_out[0]
    old = read_import_path(cases / "neuronpedia_old_export" / "np_oldexport.json", names("resid"))
    assert [row[1:3] for row in rows(old)] == [(5, "fifth")]
    dump = read_import_path(cases / "neuronpedia_dump", names("gpt2-small/6-res-jb=resid"))
    assert [row[1:3] for row in rows(dump)] == [(i, f"e{i}") for i in range(5)]
