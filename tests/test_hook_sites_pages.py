"""Pages open over a harvest whose dictionaries read or write several hook points."""

import json
from pathlib import Path

import pytest

from app import session, wanted
from backend.engine import LocalEngine
from feature_store.harvest_reader import HarvestFile
from tests.harvests import Rig, texts
from tests.models import tiny
from tests.pages import engine_loaded, opened
from tests.test_hook_sites import POST1, clt, crosscoder, toy


@pytest.fixture(scope="module")
def harvest(tmp_path_factory: pytest.TempPathFactory) -> tuple[HarvestFile, Path, LocalEngine]:
    """A harvest of an SAE, a cross-layer transcoder and a crosscoder, and its engine."""
    folder, lm = tmp_path_factory.mktemp("sites"), tiny()
    corpus = folder / "text.jsonl"
    corpus.write_text("".join(json.dumps({"text": one}) + "\n" for one in texts(60)))
    found = [toy("sae", [POST1], [POST1]), clt(), crosscoder()]
    rig = Rig(lm, found, [f"{one.name}={one.name}" for one in found], corpus)
    path = rig.harvest(folder / "store")
    engine = LocalEngine(lm, {one.name: one for one in found}, bos=lm.bos)
    return HarvestFile(path), folder / "store", engine


@pytest.mark.parametrize("name", ["clt", "crosscoder"])
@pytest.mark.parametrize("page", ["library", "features", "feature", "prompt", "shift", "steer"])
def test_pages_open(page: str, name: str, harvest, monkeypatch: pytest.MonkeyPatch) -> None:
    file, store, engine = harvest
    monkeypatch.setenv(session.STORE, str(store))
    monkeypatch.setattr(LocalEngine, "load", lambda *_: engine)
    assert engine_loaded(file)
    query = {"harvest": file.record.id, "feature": f"{name}/0", "dictionary": name}
    opened(f"views/{page}.py", {wanted.ASKED: True}, **query)
