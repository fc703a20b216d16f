"""Sizes as people write them, and where a budget comes from."""

import os
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import serve
from app.cli import main
from backend.model import memory_budget
from backend.model.memory_budget import (
    DICTIONARY_MEMORY_VARIABLE,
    MODEL_MEMORY_VARIABLE,
    dictionary_memory_budget,
    format_memory_size,
    model_memory_budget,
    parse_memory_size,
    read_machine_memory,
)
from feature_store.errors import InputError
from tests.stores import make_store

BAD = [
    "",
    "x",
    "64 MBit",
    "-64MB",
    "0",
    "0MB",
    "1kB",
    "nan",
    "inf",
    "1e9",
    "64iB",
    "1.MB",
    "٦٤MB",
    "9" * 400,
    "1" * 16,
    "64MB 2GB",
    "1,5GB",
]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64MB", 64 * 10**6),
        ("64 mb", 64 * 10**6),
        ("1.5GB", 1_500_000_000),
        ("2GiB", 2 << 30),
        ("64M", 64 * 10**6),
        ("1000000", 10**6),
        ("3MiB", 3 << 20),
        (" 2g ", 2 * 10**9),
        ("1TB", 10**12),
    ],
)
def test_sizes_that_people_write(text: str, size: int) -> None:
    assert parse_memory_size(text) == size


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="64MB, 1.5GB or 2GiB|smallest size"):
        parse_memory_size(text)


@settings(max_examples=40)
@given(st.text(max_size=12) | st.from_regex(r"[0-9.]{1,8} ?[KMGTkmgt]?i?[Bb]?", fullmatch=True))
def test_any_text_is_a_size_or_an_error_of_one_kind(text: str) -> None:
    try:
        assert parse_memory_size(text) >= 10**6
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 200


@given(st.integers(10**6, 10**15))
def test_a_size_is_written_to_half_a_per_cent(size: int) -> None:
    assert parse_memory_size(format_memory_size(size)) == pytest.approx(size, rel=0.006)


def test_a_budget_is_the_environments_or_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (MODEL_MEMORY_VARIABLE, DICTIONARY_MEMORY_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    assert (model_memory_budget(1000), dictionary_memory_budget(1000)) == (500, 250)
    assert 0 < model_memory_budget() <= psutil.virtual_memory().total / 2
    monkeypatch.setenv(MODEL_MEMORY_VARIABLE, "3GB")
    monkeypatch.setenv(DICTIONARY_MEMORY_VARIABLE, "much")
    assert model_memory_budget(1000) == 3 * 10**9
    with pytest.raises(
        InputError, match=f"environment variable {DICTIONARY_MEMORY_VARIABLE}: 'much'"
    ):
        dictionary_memory_budget()


@pytest.mark.parametrize(("limit", "found"), [("5000000", 5_000_000), ("max", None), ("", None)])
def test_a_container_has_its_own_limit(
    limit: str, found: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr(
        memory_budget, "CGROUP_LIMITS", (str(tmp_path / "memory.max"), str(tmp_path / "absent"))
    )
    assert read_machine_memory() == (found or psutil.virtual_memory().total)


def test_the_options_of_app_reach_the_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path / "store").path
    for name in (MODEL_MEMORY_VARIABLE, DICTIONARY_MEMORY_VARIABLE):
        monkeypatch.setenv(name, "1GB")
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(
        serve, "run", lambda *_: seen.append((model_memory_budget(), dictionary_memory_budget()))
    )
    command = ["app", "--store", str(store), "--no-browser"]
    assert main(command) == 0
    assert main([*command, "--model-memory", "2GB", "--dictionary-memory", "64MB"]) == 0
    assert seen == [(10**9, 10**9), (2 * 10**9, 64 * 10**6)]
    for option in ("--model-memory", "--dictionary-memory"):
        assert main([*command, option, "plenty"]) == 2
        said = capsys.readouterr().err
        assert said == (
            f"saefari: {option} must be a size of at least 1MB, such as 64MB, 1.5GB or 2GiB, "
            "not plenty.\n"
        )
    monkeypatch.setitem(os.environ, MODEL_MEMORY_VARIABLE, "plenty")
    assert main(command) == 2
    assert MODEL_MEMORY_VARIABLE in capsys.readouterr().err
