"""What tests of the command line share: a small world on disk, and how a refusal looks."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.cli import main
from tests.dictionaries import saved
from tests.harvests import texts
from tests.models import save


@dataclass(frozen=True)
class World:
    """A model, a dictionary with signs and one without, and a corpus; read only."""

    path: Path

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def corpus(self) -> Path:
        return self.path / "text.jsonl"

    def harvest(self, store: Path, /, *more: str, **changes: object) -> list[str]:
        """The words of a harvest of `top` and `abs`; `changes` replace options, None drops one."""
        options = {
            "model": self.model,
            "dictionary": self.path / "top",
            "corpus": self.corpus,
            "store": store,
            "tokens": 600,
            "context-size": 32,
            **changes,
        }
        given = [w for k, v in options.items() if v is not None for w in (f"--{k}", str(v))]
        return ["harvest", *given, *more]


def make_world(path: Path, n_texts: int = 60) -> World:
    save(path / "model")
    saved(path / "top", "topk", d_in=16, d_sae=48)
    saved(path / "abs", "abstopk", d_in=16, d_sae=24)
    rows = [json.dumps({"text": text}) + "\n" for text in texts(n_texts)]
    (path / "text.jsonl").write_text("".join(rows))
    return World(path)


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must end with status 2; its sentence, the last line of stderr."""
    capsys.readouterr()
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    last = shown.err.splitlines()[-1]
    return last.removeprefix("saefari: ") if last.startswith("saefari: ") else shown.err


def answer(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must work; its stdout."""
    capsys.readouterr()
    status = main(words)
    shown = capsys.readouterr()
    assert status == 0, shown.err
    return shown.out


def data(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(answer([*words, "--json"], capsys))
