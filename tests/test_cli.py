"""Commands that load no model: every mistake's whole sentence, and what they print."""

import json
import os
import socket
from pathlib import Path

import duckdb
import pytest
import torch
from safetensors.numpy import save_file

from app.cli import main
from app.wording import count
from backend.corpus.corpus_files import CORPUS_KINDS
from backend.dictionaries.dictionary_sources import ACCEPTED_FORMS
from feature_store.store import Store
from tests.commands import answer, data, refusal
from tests.stores import D_SAE, DEAD, make_store

Capture = pytest.CaptureFixture[str]
COMMAND = "saefari harvest --model MODEL --dictionary DICTIONARY --corpus TEXT --store"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("cli") / "store").path


def harvest(tmp_path: Path, *more: str, **changes: object) -> list[str]:
    """A harvest that is refused before a model is looked for: hub names, and a corpus."""
    text = tmp_path / "text.txt"
    text.write_text("the cat sat")
    options = {
        "model": "gpt2",
        "dictionary": "identity:blocks.0.hook_mlp_out",
        "corpus": text,
        "store": tmp_path / "store",
        **changes,
    }
    return ["harvest", *(w for k, v in options.items() for w in (f"--{k}", str(v))), *more]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--tokens", "0"], "--tokens must be 1 or more, not 0."),
        (["--tokens", "-5"], "--tokens must be 1 or more, not -5."),
        (["--context-size", "7"], "--context-size must be 8 or more, not 7."),
        (["--forward-batch", "0"], "--forward-batch must be 1 or more, not 0."),
        (["--processes", "0"], "--processes must be 1 or more, not 0."),
        (["--shard", "5/4"], "--shard 5/4 is not I/N with I from 1 to N, for example 1/4."),
        (["--shard", "0/4"], "--shard 0/4 is not I/N with I from 1 to N, for example 1/4."),
        (["--shard", "half"], "--shard half is not I/N with I from 1 to N, for example 1/4."),
        (
            ["--shard", "1/2", "--processes", "2"],
            "--shard and --processes cannot be combined: give one of them.",
        ),
        (
            ["--dictionary", "identity:blocks.0.hook_mlp_out"],
            "Two dictionaries are named 'identity:blocks.0.hook_mlp_out'. Give one another name: "
            "--dictionary NAME=identity:blocks.0.hook_mlp_out",
        ),
        (
            ["--dictionary", "=identity:blocks.0.hook_mlp_out"],
            "'=identity:blocks.0.hook_mlp_out' is not NAME=SPECIFICATION: write for example "
            "layer4=my-sae.",
        ),
        (
            ["--dtype", "float16"],
            "No dtype called 'float16'. Did you mean 'bfloat16'? There are: bfloat16, float32.",
        ),
    ],
)
def test_numbers_and_names_that_cannot_be(
    more: list[str], said: str, tmp_path: Path, capsys: Capture
) -> None:
    assert refusal(harvest(tmp_path, *more), capsys) == said


def test_a_device_that_is_not_there(tmp_path: Path, capsys: Capture) -> None:
    said = refusal(harvest(tmp_path, device="tpu"), capsys)
    works = "cpu, cuda" if torch.cuda.is_available() else "cpu"
    assert said == f"This machine has no device 'tpu'. It has: {works}."


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"model": "./nowhere/model"},
            "No model at './nowhere/model': there is no such folder, and it is not a hub name "
            "such as 'gpt2' or 'EleutherAI/pythia-70m'.",
        ),
        (
            {"dictionary": "./nowhere"},
            f"There is no dictionary at './nowhere': what works is {ACCEPTED_FORMS}.",
        ),
        (
            {"corpus": "nowhere.txt"},
            f"There is no corpus 'nowhere.txt'; give {CORPUS_KINDS}, a folder of these, stdlib, "
            f"demo, or "
            "a Hugging Face dataset as hf:NAME.",
        ),
        (
            {"text-column": "body", "corpus": "rows.jsonl"},
            "rows.jsonl, line 1 has no column 'body' to read text from. There are: text.",
        ),
        (
            {"corpus": "broken.jsonl"},
            "broken.jsonl, line 2 is not JSON (Unterminated string starting at, column 10).",
        ),
        (
            {"corpus": "latin.txt"},
            "latin.txt is not UTF-8: byte 3 (0xe9) cannot be read; save the file as UTF-8.",
        ),
        ({"corpus": "empty.txt"}, "Corpus 'empty.txt' contains no document with text."),
        (
            {"corpus": "bare"},
            f"Folder 'bare' contains no corpus: none of its files is {CORPUS_KINDS}.",
        ),
    ],
)
def test_what_is_not_there_or_not_readable(
    changes: dict, said: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bare").mkdir()
    Path("empty.txt").write_text(" \n")
    Path("latin.txt").write_bytes(b"caf\xe9")
    Path("rows.jsonl").write_text('{"text": "the cat"}\n')
    Path("broken.jsonl").write_text('{"text": "the cat"}\n{"text": "cut\n')
    assert refusal(harvest(tmp_path, **changes), capsys) == said
    assert not (tmp_path / "store").exists()


def test_damaged_weights(tmp_path: Path, capsys: Capture) -> None:
    """Of a dictionary; the model's are told by their header and length just the same."""
    import numpy as np

    file = tmp_path / "v.safetensors"
    save_file({"v": np.zeros(4, np.float32)}, file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-3])
    assert refusal(harvest(tmp_path, dictionary=f"{file}@blocks.0.hook_mlp_out"), capsys) == (
        f"{file} is damaged: it has {len(whole) - 3} bytes but its header requires {len(whole)}: "
        "copy or download it again."
    )
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "model.safetensors").write_bytes(whole[:-3])
    assert refusal(harvest(tmp_path, model=model), capsys) == (
        "model/model.safetensors is not a complete safetensors file: 3 bytes are missing at its "
        "end. "
        "Copy or download it again."
    )


READING = [["list"], ["show", "resid/3"], ["prompt", "resid/3"], ["app", "--no-browser"]]


@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
def test_a_store_that_is_none(words: list[str], tmp_path: Path, capsys: Capture) -> None:
    nowhere, plain = tmp_path / "nowhere", tmp_path / "plain"
    said = refusal([*words, "--store", str(nowhere)], capsys)
    assert said == f"There is no store at {nowhere}. Make one: {COMMAND} {nowhere}"
    plain.mkdir()
    assert refusal([*words, "--store", str(plain)], capsys) == (
        f"{plain} is not a Saefari store: it has no folder harvests/. "
        f"Make one: {COMMAND} {plain / 'store'}"
    )


def test_harvesting_into_what_is_no_store(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    assert refusal(harvest(tmp_path, store=tmp_path / "full"), capsys) == (
        f"{tmp_path}/full holds other things and is not a Saefari store. Give --store an empty or "
        "a new folder."
    )
    file = tmp_path / "full" / "thesis.tex"
    said = f"{file} is a file. Give --store a folder."
    assert refusal(harvest(tmp_path, store=file), capsys) == said


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path, capsys: Capture) -> None:
    Store.create(tmp_path)
    out = answer(["list", "--store", str(tmp_path)], capsys)
    assert out == f"{tmp_path} holds no finished harvest.\n"
    assert refusal(["show", "a/1", "--store", str(tmp_path)], capsys) == (
        f"The store at {tmp_path} holds no finished harvest. Make one: {COMMAND} {tmp_path}"
    )


def test_list_tells_of_harvests_that_cannot_be_read(tmp_path: Path, capsys: Capture) -> None:
    """Newer, damaged, half-written: each in a sentence, and the good one is still listed."""
    store = make_store(tmp_path / "store").path
    make_store(tmp_path / "other", "newer-1")
    newer = store / "harvests" / "newer-1.duckdb"
    (tmp_path / "other" / "harvests" / "newer-1.duckdb").rename(newer)
    with duckdb.connect(str(newer)) as db:
        db.execute("UPDATE harvest SET schema = 9")
    (store / "harvests" / "rubbish.duckdb").write_bytes(b"\0" * 5000)
    (store / "work" / "begun-1").mkdir(parents=True)
    (store / "work" / "begun-1" / "config.json").write_text("{}")
    said = [
        "newer-1.duckdb was written by a newer Saefari (schema 9; this one reads 1 and 2). "
        "Upgrade Saefari, or harvest again with --again.",
        "rubbish.duckdb is not a harvest file, or it is damaged. Delete it and harvest again.",
    ]
    lines = answer(["list", "--store", str(store)], capsys).splitlines()
    assert lines[0].startswith("tiny-0001  tiny on text.jsonl: 1")
    begun = "Unfinished: begun-1. The same harvest command resumes it."
    assert lines[-3:] == [begun, *said]
    found = data(["list", "--store", str(store)], capsys)
    assert found["unfinished"] == ["begun-1"] and found["problems"] == said


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        ("resid/40", "There is no feature resid/40: resid has features 0 to 39."),
        (
            "resid",
            "'resid' is not a feature. Write DICTIONARY/INDEX, for example "
            "gpt2-small/8-res-jb/1042.",
        ),
        (
            "resi/3",
            "No harvest in {store} has a dictionary called 'resi'. Did you mean 'resid'? There "
            "are: abs, resid.",
        ),
    ],
)
@pytest.mark.parametrize("command", ["show", "prompt"])
def test_a_feature_that_is_not_there(
    command: str, feature: str, said: str, stored: Path, capsys: Capture
) -> None:
    words = [command, feature, "--store", str(stored)]
    assert refusal(words, capsys) == said.format(store=stored)


def test_a_harvest_that_is_not_there(stored: Path, capsys: Capture) -> None:
    words = ["show", "resid/3", "--store", str(stored), "--harvest", "tiny-001"]
    said = "No harvest called 'tiny-001'. Did you mean 'tiny-0001'? There are: tiny-0001."
    assert refusal(words, capsys) == said


def test_a_dead_feature_has_nothing_to_explain(stored: Path, capsys: Capture) -> None:
    said = refusal(["prompt", f"resid/{DEAD}", "--store", str(stored)], capsys)
    assert said == f"resid/{DEAD} has no context in the explain split to show."
    out = answer(["show", f"resid/{DEAD}", "--store", str(stored)], capsys)
    assert "Never active on" in out


def test_a_port_that_is_taken(stored: Path, capsys: Capture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ["app", "--store", str(stored), "--port", str(port), "--no-browser"]
        assert refusal(words, capsys) == (
            f"Port {port} on 127.0.0.1 cannot be used (address already in use). Give another with "
            "--port, or none and the first free one is taken."
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["harvst"], "No such command 'harvst'"),
        (["list"], "Missing option '--store'"),
        (["list", "--store", "s", "--colour"], "No such option '--colour'"),
        (["harvest", "--tokens", "many"], "--tokens must be a whole number, not many."),
        (["show", "--contexts", "0"], "--contexts must be 1 or more, not 0."),
    ],
)
def test_words_that_are_no_command(words: list[str], said: str, capsys: Capture) -> None:
    """One sentence; where options or commands are unknown, also where all are listed."""
    sentence = refusal(words, capsys)
    assert sentence.startswith(said)
    assert sentence == said or sentence.endswith(" --help")


def test_help_and_version_end_well(capsys: Capture) -> None:
    assert "Harvest, browse" in answer(["-h"], capsys)
    assert answer(["--version"], capsys).startswith("saefari, version ")


def test_the_catalogs_lock_does_not_stop_reading(stored: Path, capsys: Capture) -> None:
    """Somebody may be annotating: what only reads harvests does not wait for the catalog."""
    with duckdb.connect(str(stored / "catalog.duckdb")):
        assert "tiny-0001" in answer(["list", "--store", str(stored)], capsys)
        assert "resid/3" in answer(["show", "resid/3", "--store", str(stored)], capsys)


def test_list_prints_the_same_as_its_data(stored: Path, capsys: Capture) -> None:
    out = answer(["list", "--store", str(stored)], capsys)
    (one,) = data(["list", "--store", str(stored)], capsys)["harvests"]
    assert (one["id"], one["tokens"]) == ("tiny-0001", 1410)
    assert [d["dictionary"] for d in one["dictionaries"]] == ["resid", "abs"]
    first, _, *rows = out.splitlines()
    where = f"tiny on text.jsonl: {count(1410)} tokens, 30 documents, 2026-01-02 03:04 UTC"
    assert first == f"tiny-0001  {where}"
    for row, d in zip(rows, one["dictionaries"], strict=False):
        shown = [d["dictionary"], d["reads"][0]["hook"], "40", "1", "4.00", "0.910", "0.10"]
        assert row.split() == shown


def test_show_prints_the_same_as_its_data(stored: Path, capsys: Capture) -> None:
    words = ["show", "abs/3", "--store", str(stored), "--contexts", "2"]
    out, found = answer(words, capsys), data(words, capsys)
    assert found["harvest"] == "tiny-0001" and found["facts"]["n_active"]
    for stratum in ("top", "bottom", "range"):
        lines = out.split(f"\n{stratum}\n")[1].split("\n\n")[0].splitlines()
        mine = [c for c in found["contexts"] if c["stratum"] == stratum]
        assert len(lines) == 2 and len(mine) == (40 if stratum == "range" else 20)
        for line, context in zip(lines, mine, strict=False):
            assert line.split()[1] == context["split"]
    for text in [*found["promoted"], *found["suppressed"]]:
        assert text.strip("\n") in out


def test_nothing_is_cut_for_a_pipe(tmp_path: Path, capsys: Capture, monkeypatch) -> None:
    """A file or a program reads whole lines, however narrow the terminal is."""
    monkeypatch.setenv("COLUMNS", "40")
    store = make_store(tmp_path / "store", "a-name-of-no-less-than-forty-characters-0001").path
    out = answer(["list", "--store", str(store)], capsys)
    assert "a-name-of-no-less-than-forty-characters-0001  tiny on text.jsonl: " in out
    assert max(map(len, out.splitlines())) > 80
    shown = answer(["show", "resid/3", "--store", str(store)], capsys)
    assert max(map(len, shown.splitlines())) > 80


def test_a_closed_pipe_is_no_crash(stored: Path, capsys: Capture, monkeypatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("app.commands.listing.listing", closed)
    monkeypatch.setattr("sys.stderr", open(os.devnull, "w"))  # noqa: PTH123, SIM115 - it is closed
    assert main(["list", "--store", str(stored)]) == 0


def test_json_is_plain_json(stored: Path, capsys: Capture) -> None:
    """No NaN and no Infinity, which are Python's own and stop other readers."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for words in (["list"], *(["show", f"abs/{i}"] for i in (0, DEAD, D_SAE - 1))):
        out = answer([*words, "--store", str(stored), "--json"], capsys)
        json.loads(out, parse_constant=refuse)
