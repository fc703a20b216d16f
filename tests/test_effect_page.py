"""Panels that run the model on stored contexts: effects of removal, neurons and heads."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import session
from app.panels import removal_effect
from app.panels.removal_effect import describe_mean_loss
from backend.engine import LocalEngine
from feature_store.catalog import Catalog
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from feature_store.removal_effects import read_removal_effects
from tests.harvests import Rig
from tests.pages import engine_loaded, opened

Open = Callable[[str], AppTest]


@pytest.fixture
def store(harvested: Path, tmp_path: Path) -> Path:
    """A store of the test's own, with the shared harvest in it."""
    (tmp_path / "harvests").mkdir()
    (tmp_path / "harvests" / harvested.name).hardlink_to(harvested)
    return tmp_path


@pytest.fixture
def visit(store: Path, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """The feature page with one of its lower tabs open, the engine loaded already."""
    monkeypatch.setenv(session.STORE, str(store))
    here = LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)
    monkeypatch.setattr(LocalEngine, "load", lambda *_: here)
    file = HarvestFile(next(store.glob("harvests/*")))

    def go(tab: str) -> AppTest:
        assert engine_loaded(file)
        return opened(session.FEATURE, feature=str(busiest(file)), tab=tab)

    yield go


def busiest(file: HarvestFile, name: str = "top") -> FeatureId:
    table = file.feature_table(name, order="density", descending=True, limit=1)
    return FeatureId(name, table.column("feature")[0].as_py())


def part(test: AppTest, name: str) -> dict:
    (found,) = [p for p in test.get("bidi_component") if name in p.proto.id]
    return json.loads(found.proto.json)


def test_effects_are_computed_once_and_then_read(
    visit: Open, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = part(visit(removal_effect.TITLE), "effect_lines")["lines"]
    file = HarvestFile(next(store.glob("harvests/*")))
    there = read_removal_effects(Catalog(store / "catalog.duckdb"), file.record.id, busiest(file))
    assert (
        len(lines)
        == len(there)
        == min(
            removal_effect.MAX_CONTEXTS,
            len(removal_effect.select_strongest_contexts(file.contexts(busiest(file)))),
        )
    )
    monkeypatch.setattr(LocalEngine, "measure_removal", lambda *_: pytest.fail("computed again"))
    assert part(visit(removal_effect.TITLE), "effect_lines")["lines"] == lines


def test_a_read_only_store_shows_effects_and_says_they_are_not_kept(
    visit: Open, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Catalog(store / "catalog.duckdb").snapshot()
    session.store().catalog.writable = False
    test = visit(removal_effect.TITLE)
    assert part(test, "effect_lines")["lines"]
    said = " ".join(caption.value for caption in test.caption)
    assert "Computed, but not saved" in said and "read-only" in said.replace("\\", "")


def test_neurons_of_the_stream(visit: Open) -> None:
    columns = part(visit("Neurons & heads"), "neuron_lists")["columns"]
    assert [column["title"] for column in columns] == [
        "Reads",
        "Writes",
        "Neurons that write alike",
    ]
    assert all(0 <= row["length"] <= 1 for column in columns for row in column["rows"])


def test_a_mean_says_its_interval_and_n() -> None:
    assert describe_mean_loss([0.5]) == "+0.50 nats (n 1: no interval)"
    # t(0.975, 2) = 4.303; the standard error of 0, 1, 2 is 1 / √3
    assert describe_mean_loss([0.0, 1.0, 2.0]) == "+1.0 nats [−1.5, +3.5] (95 % t interval, n 3)"
