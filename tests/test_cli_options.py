"""Every option of every command meets every kind of bad value with exit 2 and one sentence.

The cases are made from the options themselves, so that a new option is in them, or fails the
first test here because it validates nothing.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import cli
from app.cli import main, saefari
from app.commands.option_types import (
    LARGEST_SEED,
    LONGEST_TEXT,
    FilledText,
    FiniteNumber,
    LocalPath,
    MemorySize,
    OneOf,
    SomeOf,
    ValidatedType,
    WholeNumber,
)
from feature_store.errors import InputError
from tests.commands import make_world
from tests.stores import make_store

Capture = pytest.CaptureFixture[str]
NO_NUMBERS = (
    "many",
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "½",
    "٣",
    "1_0",
    "1e",
    "0x10",
    "1,5",
    "--",
    "\0",
)
"""Texts that are neither whole nor finite numbers as an option takes them."""


def commands(
    group: click.Group = saefari, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it, hidden ones too."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


PARAMETERS = [
    pytest.param(words, param, id=f"{' '.join(words)} {param.opts[0]}")
    for words, command in commands()
    for param in command.params
    if not (isinstance(param, click.Option) and param.is_flag)
]


def bad_values(kind: click.ParamType, folder: Path) -> Iterator[str]:
    """Values that no option of this type may take."""
    if isinstance(kind, WholeNumber):
        yield from (*NO_NUMBERS, "1.5", str(kind.least - 1), str(kind.most + 1), "9" * 5000)
        yield from ("-" + "9" * 40, "1" * 40)
    elif isinstance(kind, FiniteNumber):
        yield from (*NO_NUMBERS, "1e999", repr(kind.most * 1.1), "-1e40", "9" * 5000)
    elif isinstance(kind, MemorySize):
        yield from (*NO_NUMBERS, "-64MB", "0", "999999", "64 MBit", "9" * 5000, "\udc80")
    elif isinstance(kind, OneOf | SomeOf):
        yield from ("", " ", "nothing-like-this", "é", "x" * 5000, "\udc80", "\0")
    elif isinstance(kind, LocalPath):
        file = folder / "file"
        file.write_text("x")
        yield from ("", " ", "x" * 5000, "a/" * 3000, "x" * 256, "\udc80", "a\0b", str(file / "b"))
        if kind.must_be == "file":
            yield from (str(folder), str(folder / "missing"))
        if kind.must_be.startswith("folder"):
            yield str(file)
    elif isinstance(kind, FilledText):
        yield from ("", "x" * (kind.longest + 1), "a\0b", "caf\udce9")


def refused(words: list[str], capsys: Capture) -> str:
    """Run a command line that must end with status 2 in one sentence; that sentence."""
    capsys.readouterr()
    assert main(words) == 2, words
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("saefari: "), shown.err[:500]
    sentence = lines[0].removeprefix("saefari: ")
    assert len(sentence) < 1_000 and sentence.isprintable()
    assert sentence.endswith((".", "--help")) and "Error" not in sentence
    return sentence


@pytest.mark.parametrize(("words", "param"), PARAMETERS)
def test_every_option_validates_what_it_is_given(
    words: tuple[str, ...], param: click.Parameter
) -> None:
    assert isinstance(param.type, ValidatedType), "use a type of app/commands/option_types.py"


@pytest.mark.parametrize(("words", "param"), PARAMETERS)
def test_a_bad_value_is_refused_by_its_options_name(
    words: tuple[str, ...], param: click.Parameter, tmp_path: Path, capsys: Capture
) -> None:
    """Before anything else is looked at: required options are absent, and no model is loaded."""
    for value in bad_values(param.type, tmp_path):
        if isinstance(param, click.Option):
            option = max(param.opts, key=len)
            sentence = refused([*words, f"{option}={value}"], capsys)
        else:
            option = param.metavar or str(param.name).upper()
            before = ["store"] * PARAMETERS_OF[words].index(param)
            sentence = refused([*words, "--", *before, value], capsys)
        assert option in sentence, (option, value[:50], sentence)


PARAMETERS_OF = {
    words: [param for param in command.params if isinstance(param, click.Argument)]
    for words, command in commands()
}


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """A command line of each command that would work, as option → value."""
    folder = tmp_path_factory.mktemp("options")
    world, store = make_world(folder, n_texts=8), make_store(folder / "store").path
    file = folder / "labels.json"
    assert main(["export", "--store", str(store), "--what", "labels", "--out", str(file)]) == 0
    model = {"--model": str(world.model), "--dictionary": f"top={world.path / 'top'}"}
    named = {"--store": str(store), "--dictionary": "resid"}
    run = {**model, "--prompt": "the cat", "--max-new": "2"}
    ablate = {**model, "--prompt": "the cat", "--feature": "top/3"}
    harvest = {
        **model,
        "--corpus": str(world.corpus),
        "--store": str(folder / "new"),
        "--tokens": "60",
        "--context-size": "8",
    }
    return {
        "harvest": harvest,
        "check": {**model, "--corpus": str(world.corpus)},
        "list": {"--store": str(store)},
        "map": named,
        "steer": {**run, "--feature": "top/3"},
        "ablate": ablate,
        "circuit": {**model, "--prompt": "the cat", "--target": " sat"},
        "clusters": {"--store": str(store)},
        "explain": {**named, "--features": "3"},
        "score": {**named, "--features": "3"},
        "show": {"--store": str(store), "": "resid/3"},
        "prompt": {"--store": str(store), "": "resid/3"},
        "job run": {"": f"{store} none"},
        "servers check": {"": "http://127.0.0.1:9/v1", "--model": "m"},
        "export": {"--store": str(store), "--what": "labels", "--out": str(folder / "out.json")},
        "import": {"--store": str(store), "": str(file)},
    }


STRANGE = ("nothing-like-this", "é\u202e\u0301☃", "-1", "9-3")
"""Values of names and texts that are valid by themselves, and mean nothing or something odd."""
NAMED = [
    pytest.param(words, param, id=f"{' '.join(words)} {param.opts[0]}")
    for words, command in commands()
    for param in command.params
    if isinstance(param.type, FilledText) and words not in ((("app",), ("demo",)))
]


@pytest.mark.parametrize(("words", "param"), NAMED)
def test_a_strange_value_works_or_is_a_sentence(
    words: tuple[str, ...],
    param: click.Parameter,
    lines: dict[str, dict[str, str]],
    capsys: Capture,
) -> None:
    """Whatever a name or a text says, the command ends well, or says in one sentence why not."""
    for value in STRANGE:
        line = dict(lines[" ".join(words)])
        before = line.get("", "").rpartition(" ")[0]
        name = max(param.opts, key=len) if isinstance(param, click.Option) else ""
        line[name] = value if name else f"{before} {value}"
        bare = line.pop("", "").split()
        given_ = [f"{name}={text}" for name, text in line.items()]
        capsys.readouterr()
        status = main([*words, *given_, *(["--", *bare] if bare else [])])
        shown = capsys.readouterr()
        assert status in (0, 2), (value, shown.err[-300:])
        if status == 2:
            last = shown.err.splitlines()[-1]
            assert last.startswith("saefari: ") and len(last) < 1_000, (value, shown.err[-300:])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_permission_is_a_sentence(tmp_path: Path, capsys: Capture) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    for command in ("list", "explain", "map"):
        more = [] if command == "list" else ["--dictionary", "d"]
        refused([command, "--store", str(closed / "store"), *more], capsys)


@pytest.mark.parametrize(
    "error",
    [
        OSError(36, "File name too long", "x" * 300),
        PermissionError(13, "Permission denied", "s"),
        OSError(28, "No space left on device"),
    ],
)
def test_what_the_system_refuses_is_a_sentence(
    error: OSError, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli.saefari, "main", refuse)
    assert str(error.strerror).lower() in refused(["list"], capsys)


KINDS = [
    WholeNumber(0, LARGEST_SEED),
    FiniteNumber(0, 1, above=True),
    FilledText(40),
    OneOf(["a", "b"]),
    SomeOf(["a", "b"]),
    LocalPath("folder or new"),
    FilledText(LONGEST_TEXT),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_any_text_is_read_or_refused(kind: ValidatedType, text: str) -> None:
    """Whatever comes from a shell is a value of the kind, or an InputError that can be printed."""
    try:
        found = kind.read_value(text, "--option")
    except InputError as error:
        assert str(error).startswith("--option ") and str(error).encode("utf-8")
        assert str(error).isprintable()
    else:
        if isinstance(kind, WholeNumber | FiniteNumber):
            assert kind.least <= found <= kind.most
