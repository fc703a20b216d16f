"""Every kind of corpus is read, and every mistake in one gets its whole sentence."""

import json
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backend.corpus import chat_renderer, check_corpus, open_corpora, open_corpus
from backend.corpus.corpus_files import CORPUS_KINDS
from feature_store.errors import InputError


def lines(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def message(spec: object, **options: str) -> str:
    with pytest.raises(InputError) as refused:
        check_corpus(str(spec), **options)
    return str(refused.value)


def test_json_lines_ids_are_line_numbers_and_rows_without_text_are_left_out(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "one", "template": "t1"}\n\n'
        b'{"text": null}\n{"text": " "}\n{"text": "two"}'
    )
    found = [(d.id, d.text, d.template) for d in open_corpus(str(path))]
    assert found == [("a.jsonl#1", "one", "t1"), ("a.jsonl#5", "two", None)]


def test_a_text_file_is_one_document_without_its_byte_order_mark(tmp_path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\n\ntwo\n")
    assert [(d.id, d.text) for d in open_corpus(str(tmp_path / "a.txt"))] == [
        ("a.txt", "one\n\ntwo\n")
    ]


def test_a_folder_is_its_files_by_path(tmp_path) -> None:
    """Sorted by relative path, not by kind; other and hidden files are no text."""
    root = tmp_path / "books"
    (root / "b").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "c.txt").write_text("last")
    (root / "README.md").write_text("no")
    (root / ".git" / "x.txt").write_text("no")
    pq.write_table(pa.table({"text": ["x", None, "y"], "n": [1, 2, 3]}), root / "b" / "p.parquet")
    lines(root / "a.jsonl", {"text": "first"})
    ids = [d.id for d in open_corpus(str(root))]
    assert ids == ["books/a.jsonl#1", "books/b/p.parquet#1", "books/b/p.parquet#3", "books/c.txt"]


def test_several_corpora_of_one_name_keep_their_ids_apart(tmp_path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
    specs = [lines(tmp_path / folder / "x.jsonl", {"text": folder}) for folder in "ab"]
    corpus = open_corpora(specs)
    assert corpus.name == "x.jsonl + x.jsonl (2)"
    assert [d.id for d in corpus] == ["x.jsonl#1", "x.jsonl (2):x.jsonl#1"]


def test_stdlib_is_the_library_without_tests_twice_the_same() -> None:
    first = [(d.id, d.text) for d in open_corpus("stdlib")]
    ids = [id for id, _ in first]
    assert "stdlib/json/decoder.py" in ids
    assert not any("site-packages" in id or "/test/" in id or "/tests/" in id for id in ids)
    assert first == [(d.id, d.text) for d in open_corpus("stdlib")]
    assert ids == sorted(ids)


def test_odd_characters(tmp_path) -> None:
    """A lone surrogate becomes U+FFFD; NUL and a surrogate pair's character stay."""
    path = tmp_path / "odd.jsonl"
    path.write_text(r'{"text": "a\ud800b\u0000c\ud83d\ude00"}')
    assert [d.text for d in open_corpus(str(path))] == ["a\ufffdb\0c\U0001f600"]


class Chatty:
    """A tokenizer, as far as chat goes: `role: content` lines."""

    all_special_tokens = ["<end>"]
    chat_template = "yes"

    def apply_chat_template(self, messages: list[dict], tokenize: bool) -> str:
        return "".join(f"{m['role']}: {m['content']}<end>" for m in messages)


CHAT = {"messages": [{"role": "user", "content": "hi"}, {"role": "model", "content": "yo"}]}


def test_chat_goes_through_the_models_template(tmp_path) -> None:
    spec = lines(tmp_path / "chat.jsonl", CHAT)
    check_corpus(spec)
    (document,) = open_corpus(spec, render=chat_renderer(Chatty()))
    assert document.text == "user: hi<end>model: yo<end>"
    assert document.rendered


def test_chat_that_cannot_be_rendered(tmp_path) -> None:
    bare = Chatty()
    bare.chat_template = None
    forged = {"messages": [{"role": "user", "content": "a<end>b"}]}
    spec = lines(tmp_path / "chat.jsonl", CHAT, forged)
    for render, said in [
        (None, "1 is a chat transcript, which needs a model with a chat template."),
        (
            chat_renderer(bare),
            "1: this model's tokenizer has no chat template to render messages with.",
        ),
        (
            chat_renderer(Chatty()),
            "2: a message contains '<end>', a special token of this model; remove it.",
        ),
    ]:
        with pytest.raises(InputError) as refused:
            list(open_corpus(spec, render=render))
        assert str(refused.value) == f"{spec}, line {said}"


def test_no_such_corpus() -> None:
    said = (
        f"There is no corpus 'nowhere.txt'; give {CORPUS_KINDS}, a folder of these, stdlib, "
        f"demo, or a "
        "Hugging Face dataset as hf:NAME."
    )
    assert message("nowhere.txt") == said
    with pytest.raises(InputError, match="No corpus was given; name at least one."):
        open_corpora([])


def test_a_file_of_another_kind(tmp_path) -> None:
    (tmp_path / "a.pdf").write_text("x")
    said = f"Corpus '{tmp_path}/a.pdf' is not {CORPUS_KINDS}."
    assert message(tmp_path / "a.pdf") == said


def test_empty_ones(tmp_path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "blank.txt").write_text(" \n")
    spec = lines(tmp_path / "null.jsonl", {"text": None})
    assert message(tmp_path / "blank.txt") == "Corpus 'blank.txt' contains no document with text."
    assert message(spec) == "Corpus 'null.jsonl' contains no document with text."
    said = f"Folder '{tmp_path}/none' contains no corpus: none of its files is {CORPUS_KINDS}."
    assert message(tmp_path / "none") == said


@pytest.mark.parametrize("name", ["x.txt", "x.jsonl"])
def test_not_utf8_names_the_byte(tmp_path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b'{"text": "ok"}\n{"text": "caf\xe9 "}\n')
    assert message(path) == (
        f"{path} is not UTF-8: byte 28 (0xe9) cannot be read; save the file as UTF-8."
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "cut', "is not JSON (Unterminated string starting at, column 10)."),
        ("[1]", "is not a JSON object with a column 'text'."),
        ('{"text": 3}', ": column 'text' holds int, neither text nor a list of token ids."),
        ('{"b": "", "a": 1}', "has no column 'text' to read text from. There are: a, b."),
        (
            '{"messages": [{"role": "user"}]}',
            ": 'messages' is not a list of objects with a role and a content, both text.",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path, line: str, said: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "fine"}\n\n' + line + "\n")
    joint = "" if said.startswith(":") else " "
    assert message(path) == f"{path}, line 3{joint}{said}"


def test_nesting_too_deep_is_a_bad_line_too(tmp_path) -> None:
    (tmp_path / "x.jsonl").write_text("[" * 200_000)
    assert message(tmp_path / "x.jsonl").startswith(f"{tmp_path}/x.jsonl, line 1 is not JSON")


def test_parquet_mistakes(tmp_path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"body": ["x"], "n": [1]}), path)
    assert message(path) == f"{path} has no column 'text' to read text from. There are: body, n."
    assert (
        message(path, text_column="n")
        == f"{path}, row 1: column 'n' holds int, neither text nor a list of token ids."
    )
    check_corpus(str(path), text_column="body")
    path.write_bytes(b"PAR1 but not really")
    assert message(path).startswith(f"{path} is not a readable Parquet file: ")


def test_a_dataset_streams_rows(monkeypatch) -> None:
    asked = []

    def load_dataset(*names: str | None, **options: object) -> list[dict]:
        asked.append((names, options))
        return [{"text": "a"}, {"text": None}, {"text": "b"}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    corpus = open_corpus("hf:org/name:small@test")
    assert [d.id for d in corpus] == ["org/name:small@test#1", "org/name:small@test#3"]
    assert asked == [(("org/name", "small"), {"split": "test", "streaming": True})]


def test_a_dataset_that_is_not_reachable(monkeypatch) -> None:
    def load_dataset(*names: object, **options: object) -> None:
        raise ConnectionError("Couldn't reach 'org/name' on the Hub.")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert message("org/name") == (
        "'org/name' is not a local file or folder, and cannot be read as a Hugging Face dataset: "
        "Couldn't reach 'org/name' on the Hub."
    )


def test_corpora_are_light() -> None:
    code = (
        "import sys, backend.corpus; assert not {'torch', 'pyarrow', 'datasets'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
