"""Explanations of Neuronpedia and delphi: found, named after our dictionaries, or refused whole."""

import gzip
import json
from pathlib import Path

import pytest

from feature_store.errors import InputError
from feature_store.exchange.reading import read_bytes, read_path
from feature_store.exchange.sources import Names, meant

SIZES = {"resid": 40, "mlp": 8}


def line(**changes: object) -> dict:
    usual = {
        "id": "c1", "modelId": "tiny", "layer": "1-res", "index": "3", "authorId": "somebody",
        "description": " mentions of dogs ", "embedding": "[0.0, 1.0]",
        "typeName": "oai_token-act-pair", "explanationModelName": "some-model",
    }  # fmt: skip
    return {**usual, **changes}


def packed(rows: list[dict]) -> bytes:
    return gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def names(*words: str) -> Names:
    return Names(SIZES, meant(words)).check()


def rows(found) -> list[tuple]:
    return [(r["dictionary"], r["feature"], r["text"]) for r in found.table.to_pylist()]


def test_a_dump_of_neuronpedia_is_read(tmp_path: Path) -> None:
    (tmp_path / "explanations").mkdir()
    (tmp_path / "source.jsonl").write_text("{}")
    for number in (0, 1):
        path = tmp_path / "explanations" / f"batch-{number}.jsonl.gz"
        path.write_bytes(packed([line(index=str(number)), line(index=number + 5, description="")]))
    found = read_path(tmp_path, names("resid"))
    assert rows(found) == [("resid", 0, "mentions of dogs"), ("resid", 1, "mentions of dogs")]
    assert found.left_out == ("2 explanations without words",)
    row = found.table.to_pylist()[0]
    assert (row["explainer"], row["model"]) == ("oai_token-act-pair", "some-model")
    assert row["author"] == "model"
    said = {"source": "neuronpedia", "model": "tiny", "layer": "1-res", "id": "c1"}
    assert json.loads(row["provenance"]) == said


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.jsonl.gz"])
def test_a_feature_brings_its_explanations(tmp_path: Path, name: str) -> None:
    feature = {
        "modelId": "tiny", "layer": "1-res", "index": "3", "pos_str": ["a"],
        "explanations": [{"description": "dogs", "typeName": "t"}, {"description": "cats"}],
    }  # fmt: skip
    other = {"modelId": "tiny", "layer": "1-res", "index": "4", "maxActApprox": 2.0}
    whole = json.dumps([feature, other]).encode()
    parts = f"{json.dumps(feature)}\n\n{json.dumps(other)}".encode()
    data = whole if name == "x.json" else gzip.compress(parts) if name.endswith("gz") else parts
    (tmp_path / name).write_bytes(data)
    found = read_path(tmp_path / name, names("resid"))
    assert rows(found) == [("resid", 3, "dogs"), ("resid", 3, "cats")]
    assert found.left_out == ("1 features without an explanation",)
    assert read_bytes(data, name, names("resid")).table.equals(found.table)


def test_sources_are_told_apart_by_the_person_or_by_name() -> None:
    both = b"".join(json.dumps(line(layer=layer)).encode() + b"\n" for layer in ("1-res", "mlp"))
    found = read_bytes(both, "x.jsonl", names("tiny/1-res=resid"))
    assert [row[0] for row in rows(found)] == ["resid", "mlp"]
    with pytest.raises(InputError, match=r"x\.jsonl, line 2: there are several sources here"):
        read_bytes(both, "x.jsonl", names("resid"))
    with pytest.raises(InputError, match=r"line 1: it is about tiny/1-res, and no dictionary"):
        read_bytes(both, "x.jsonl", names())


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (line(index="40"), "line 2: resid has features 0 to 39, not 40"),
        (line(index="-1"), "line 2: index '-1' is not a whole number"),
        (line(index="9" * 30), "is not a whole number"),
        ({"description": "dogs"}, "line 2: 'modelId' is missing"),
        ({"modelId": 1}, "line 2: it is no explanation of Neuronpedia's"),
        ([1], "line 2: it is not an object"),
    ],
)
def test_a_wrong_line_is_named(second: object, sentence: str) -> None:
    data = f"{json.dumps(line())}\n{json.dumps(second)}\n".encode()
    with pytest.raises(InputError, match=sentence) as caught:
        read_bytes(data, "x.jsonl", names("resid"))
    assert str(caught.value).endswith("Nothing was imported.")


def test_damaged_files_get_a_sentence() -> None:
    for data, sentence in [
        (b"{}\n{", "x.jsonl, line 1: it is no explanation"),
        (json.dumps(line()).encode() + b"\n{", "x.jsonl, line 2, column 2"),
        (packed([line()] * 50)[:-20], "cannot be unpacked"),
        (b"\x1f\x8bnot", "cannot be unpacked"),
        (b"\xff\xfe{", "x.jsonl, line 1: it is not UTF-8"),
    ]:
        with pytest.raises(InputError, match=sentence):
            read_bytes(data, "x.jsonl", names("resid"))


def delphi_run(folder: Path) -> Path:
    (folder / "explanations").mkdir(parents=True)
    (folder / "run_config.json").write_text('{"explainer_model": "some/model"}')
    for hook, latent, text in [("layers.1", 3, "dogs"), ("layers.1", 12, ""), ("mlp", 0, "a\ncat")]:
        path = folder / "explanations" / f"{hook}_latent{latent}.txt"
        path.write_bytes(json.dumps(text).encode())
    return folder


def test_explanations_of_delphi_are_read(tmp_path: Path) -> None:
    run = delphi_run(tmp_path / "run")
    found = read_path(run, names("layers.1=resid"))
    assert rows(found) == [("resid", 3, "dogs"), ("mlp", 0, "a\ncat")]
    assert found.left_out == ("1 explanations without words",)
    row = found.table.to_pylist()[0]
    assert (row["explainer"], row["model"]) == ("delphi", "some/model")
    assert read_path(run / "explanations", names("layers.1=resid")).table.equals(found.table)


def test_a_wrong_file_of_delphi_is_named(tmp_path: Path) -> None:
    run = delphi_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"mlp_latent0\.txt: there are several sources"):
        read_path(run, names("resid"))
    (run / "explanations" / "layers.1_latent5.txt").write_text("dogs")
    with pytest.raises(InputError, match=r"layers\.1_latent5\.txt: it is not JSON"):
        read_path(run, names("layers.1=resid"))
    (run / "explanations" / "layers.1_latent5.txt").write_text("[1]")
    with pytest.raises(InputError, match=r"layers\.1_latent5\.txt: it holds no text"):
        read_path(run, names("layers.1=resid"))


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b")
    with pytest.raises(InputError, match="holds neither explanations of delphi"):
        read_path(tmp_path, names())
    with pytest.raises(InputError, match="There is nothing at"):
        read_path(tmp_path / "none", names())
    with pytest.raises(InputError, match="x.csv, line 1, column 1"):
        read_path(tmp_path / "x.csv", names())
    with pytest.raises(InputError, match=r"No dictionary called 'dogs'\. There are: mlp, resid"):
        names("dogs")
    with pytest.raises(InputError, match="says twice what x means: a and b"):
        meant(("x=a", "x=b"))
