"""`saefari clusters`: prints, keeps, and says what was wrong."""

import json
from pathlib import Path

import pytest

from app.cli import main
from backend.engine import LocalEngine
from feature_store.experiments import Experiments
from feature_store.store import Store
from tests.harvests import Rig


@pytest.fixture
def store(harvested: Path, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of this test's own, whose engine is the rig's."""
    live = LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)
    monkeypatch.setattr(LocalEngine, "load", lambda *_: live)
    (tmp_path / "harvests").mkdir()
    (tmp_path / "harvests" / harvested.name).symlink_to(harvested)
    return tmp_path


def test_clusters_are_printed_and_kept(store: Path, capsys: pytest.CaptureFixture) -> None:
    asked = [
        "clusters",
        "--store",
        str(store),
        "--dictionary",
        "top",
        "--tokens",
        "40",
        "--loss",
        "6",
        "--clusters",
        "3",
    ]
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dictionaries"] == ["top"] and len(found["clusters"]) == 3
    kept = Experiments(Store(store).catalog).open(found["experiment"])
    assert kept.kind == "clusters" and kept.request["tokens"] == 40
    assert main(asked) == 0
    assert f"kept as {found['experiment']}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "words"),
    [(["--tokens", "3"], "must be 20 or more"), (["--dictionary", "tpo"], "top")],
)
def test_mistakes_are_a_sentence(
    store: Path, capsys: pytest.CaptureFixture, given: list[str], words: str
) -> None:
    assert main(["clusters", "--store", str(store), *given]) == 2
    assert words in capsys.readouterr().err
