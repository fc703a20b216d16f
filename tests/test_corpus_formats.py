"""Corpora as other tools write them: compressed, CSV, bytes, nested columns, token ids."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.corpus import check_corpus, open_corpora, open_corpus, plan_sequences, token_decoder
from feature_store.errors import InputError
from tests import models

TEXTS = ["One story.", "Zwei Geschichten, “mit” Ä.", "three\nlines\n"]


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zstd,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def json_lines() -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()


def comma_separated() -> bytes:
    quoted = ['"' + text.replace('"', '""') + '"' for text in TEXTS]
    return ("id,text\n" + "".join(f"{i},{text}\n" for i, text in enumerate(quoted))).encode()


def texts(spec: object, **columns: str) -> list[str]:
    return [document.text for document in open_corpus(str(spec), **columns)]


def message(spec: object, **columns: str) -> str:
    with pytest.raises(InputError) as caught:
        texts(spec, **columns)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError):
        check_corpus(str(spec), **columns)
    return str(caught.value)


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("kind", [".jsonl", ".csv", ".txt", ".json"])
def test_a_compressed_file_is_what_it_holds(tmp_path: Path, kind: str, suffix: str) -> None:
    data = {
        ".jsonl": json_lines(),
        ".csv": comma_separated(),
        ".txt": TEXTS[1].encode(),
        ".json": json.dumps([{"text": text} for text in TEXTS]).encode(),
    }[kind]
    (tmp_path / f"a{kind}").write_bytes(data)
    plain = [(d.id, d.text) for d in open_corpus(str(tmp_path / f"a{kind}"))]
    file = tmp_path / f"b{kind}{suffix}"
    file.write_bytes(COMPRESS[suffix](data))
    want = [(id.replace(f"a{kind}", file.name), text) for id, text in plain]
    assert [(d.id, d.text) for d in open_corpus(str(file))] == want
    assert [text for _, text in plain] == ([TEXTS[1]] if kind == ".txt" else TEXTS)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_damaged_file_is_no_shorter_one(tmp_path: Path, suffix: str) -> None:
    """Cut off, of another kind, or with a changed byte: a sentence, never part of the text."""
    rows = b"".join(json.dumps({"text": f"{i * i} {i}"}).encode() + b"\n" for i in range(1500))
    whole = COMPRESS[suffix](rows)
    file = tmp_path / f"a.jsonl{suffix}"
    for data in (whole[: len(whole) // 2], whole[:-3], rows, b"\0" * 50):
        file.write_bytes(data)
        assert f"{file} is damaged or is not a {suffix} file" in message(file)


def test_parts_that_were_compressed_one_by_one_are_all_read(tmp_path: Path) -> None:
    for suffix, compress in COMPRESS.items():
        file = tmp_path / f"a.jsonl{suffix}"
        file.write_bytes(compress(json_lines()) + compress(json_lines()))
        assert texts(file) == TEXTS * 2, suffix


def test_a_compressed_file_without_its_suffix_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(json_lines()))
    assert message(tmp_path / "a.jsonl").endswith(
        "a.jsonl is compressed: rename it a.jsonl.gz, so that it is decompressed."
    )
    (tmp_path / "a.parquet.gz").write_bytes(b"")
    assert "is not a .txt, .jsonl" in message(tmp_path / "a.parquet.gz")


def test_a_folder_reads_them_beside_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(json_lines()))
    (tmp_path / "b.csv").write_bytes(comma_separated())
    (tmp_path / "c.txt.zst").write_bytes(zstd(b"text"))
    (tmp_path / "info.json").write_text("{}")
    ids = [document.id for document in open_corpus(str(tmp_path))]
    name = tmp_path.name
    assert ids == [f"{name}/a.jsonl.gz#{i}" for i in (1, 2, 3)] + [
        f"{name}/b.csv#{i}" for i in (1, 2, 3)
    ] + [f"{name}/c.txt.zst"]


def test_the_case_is_read(cases: Path) -> None:
    found = texts(cases / "corpus_jsonl_gz" / "a.jsonl.gz")
    assert len(found) > 5
    assert found[0].startswith("Spot. Spot saw the shiny car")


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=2, max_size=2),
        min_size=1,
        max_size=4,
    )
)
def test_any_text_comes_back_from_csv(tmp_path_factory, rows: list[list[str]]) -> None:
    import csv

    file = tmp_path_factory.mktemp("csv") / "a.csv"
    rows = [[text.replace("\0", "").replace("\r", "\n") or "x" for text in row] for row in rows]
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out, quoting=csv.QUOTE_ALL).writerows([["text", "other"], *rows])
    assert texts(file) == [row[0] for row in rows if row[0].strip()] or not any(
        row[0].strip() for row in rows
    )


def test_long_fields_tabs_and_a_mark_in_front(tmp_path: Path) -> None:
    long = "word " * 50_000
    (tmp_path / "a.csv").write_text(f'\ufefftext\n"{long}"\n', encoding="utf-8")
    assert texts(tmp_path / "a.csv") == [long]
    (tmp_path / "a.tsv").write_text("n\ttext\n1\ta, b\n\n2\tc\n")
    assert texts(tmp_path / "a.tsv") == ["a, b", "c"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("text,n\na,1\nb\n", "row 2 (line 3) has 1 fields, and the header names 2 columns."),
        ("text,n\na,b,1\n", "row 1 (line 2) has 3 fields, and the header names 2 columns."),
        ('text\n"never closed\n', "line 2 is not valid CSV: unexpected end of data."),
        ("title;text\na;b\n", "has no column 'text' to read text from. There are: title;text."),
        ("", "contains no document with text."),
        ("text\n", "contains no document with text."),
    ],
)
def test_broken_csv_is_a_sentence(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    assert message(tmp_path / "a.csv").endswith(says)


def test_bytes_that_are_text_are_text(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [text.encode() for text in TEXTS]}), file)
    assert texts(file) == TEXTS
    pq.write_table(pa.table({"text": [b"good", b"\xff\xfe"]}), file)
    assert message(file) == (
        f"{file}, row 2: column 'text' holds bytes that are not UTF-8 (invalid start byte at byte "
        "0)."
    )


ROWS = [
    {"doc": {"text": text, "n": 1}, "parts": [{"text": text}], "doc.flat": text} for text in TEXTS
]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("column", ["doc.text", "parts.0.text", "doc.flat"])
def test_a_field_inside_a_column_is_read(tmp_path: Path, kind: str, column: str) -> None:
    file = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), file)
    else:
        file.write_text("\n".join(json.dumps(row) for row in ROWS))
    assert texts(file, text_column=column) == TEXTS
    said = message(file, text_column="doc.title")
    assert "has no column 'doc.title' to read text from. There are: doc" in said


def test_a_null_on_the_way_is_a_null(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"doc": null}\n{"doc": {"text": "a"}}\n')
    assert texts(tmp_path / "a.jsonl", text_column="doc.text") == ["a"]
    (tmp_path / "a.jsonl").write_text('{"doc": {"text": {"en": "a"}}}\n')
    assert "column 'doc.text' holds dict, neither text nor" in message(
        tmp_path / "a.jsonl", text_column="doc.text"
    )


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_ready_made_token_ids_are_fed_as_they_are(tmp_path: Path, kind: str) -> None:
    """No tokenizer in between: ids that no text gives, too; BOS in front is each sequence's own."""
    tokenizer = models.tokenizer()
    bos = tokenizer.bos_token_id
    rows = [[bos, 5, 6, 7, 8, 5], [9, 9, 10, 11, bos, 12], []]
    file = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"input_ids": rows}), file)
    else:
        file.write_text("\n".join(json.dumps({"input_ids": row}) for row in rows))
    check_corpus(str(file), text_column="input_ids")
    corpus = open_corpora([str(file)], text_column="input_ids", decode=token_decoder(tokenizer))
    plan = plan_sequences(
        corpus,
        tokenizer,
        tmp_path / "plan",
        tokens=100,
        context_size=16,
        bos=bos,
        special_ids=tokenizer.all_special_ids,
    )
    fed = [plan.tokens(i).tolist() for i in np.argsort(plan.document)]
    assert fed == [[bos, 5, 6, 7, 8, 5], [bos, 9, 9, 10, 11, bos, 12]]
    assert not any("came from the corpus's own text" in said for said in plan.warnings)


def test_ids_of_another_tokenizer_are_told(tmp_path: Path) -> None:
    tokenizer = models.tokenizer()
    (tmp_path / "a.jsonl").write_text(json.dumps({"ids": [1, len(tokenizer)]}))
    corpus = open_corpora(
        [str(tmp_path / "a.jsonl")], text_column="ids", decode=token_decoder(tokenizer)
    )
    with pytest.raises(InputError, match=r"a.jsonl, line 1: token id \d+ is outside this model's"):
        list(corpus)
    for wrong in ([1.5], [-1], [True], ["a"], [[1]], {"a": 1}, 3):
        (tmp_path / "a.jsonl").write_text(json.dumps({"ids": wrong}))
        said = message(tmp_path / "a.jsonl", text_column="ids")
        assert "neither text nor a list of token ids" in said
