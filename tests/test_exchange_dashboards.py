"""The layout of Neuronpedia's dumps: every feature, and numbers that are the harvest's own."""

import gzip
import json
from pathlib import Path

import pytest

from feature_store.errors import InputError
from feature_store.exchange import dashboards
from feature_store.exchange.dashboards import export
from feature_store.exchange.intervals import BARS, bars, intervals
from feature_store.exchange.reading import read_path, sizes
from feature_store.exchange.shapes import checked
from feature_store.exchange.sources import Names
from feature_store.exchange.taking import take_in
from feature_store.histogram import bin_of
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.stores import D_SAE, DEAD, WINDOW, make_store

EXPLAINED = {
    "dictionary": "resid",
    "feature": 3,
    "text": "dogs",
    "explainer": "tokens",
    "model": "m",
    "author": "model",
    "provenance": "{}",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("dashboards") / "store")


def lines(folder: Path) -> list[dict]:
    files = sorted(
        folder.glob("batch-*.jsonl.gz"), key=lambda path: int(path.name[6:].split(".")[0])
    )
    return [json.loads(line) for file in files for line in gzip.open(file)]


def test_every_feature_and_context_is_there(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboards, "BATCH", 16)
    monkeypatch.setattr(dashboards, "CHUNK", 100)
    file, heard = store.harvest(), []
    written = export(file, "resid", tmp_path, tell=lambda done, of: heard.append((done, of)))
    assert written.folder == tmp_path / "tiny" / "1-resid"
    assert heard == [(16, D_SAE), (32, D_SAE), (40, D_SAE)]
    features = lines(written.folder / "features")
    assert [int(row["index"]) for row in features] == list(range(D_SAE))
    contexts = lines(written.folder / "activations")
    assert len(contexts) == written.activations == (D_SAE - 1) * 60
    assert len({row["id"] for row in contexts}) == len(contexts)
    facts = file.facts(FeatureId("resid", 3))
    row = features[3]
    assert row["maxActApprox"] == facts.max_act and row["frac_nonzero"] == facts.density
    assert row["pos_str"] == [" dog", " cat", " ran"]
    assert row["pos_values"] == pytest.approx(facts.promoted_values, abs=1e-4)
    assert (row["modelId"], row["layer"]) == ("tiny", "1-resid")
    assert features[DEAD]["maxActApprox"] == 0 and not features[DEAD]["freq_hist_data_bar_heights"]


def test_a_context_has_its_tokens_and_values(store: Store, tmp_path: Path) -> None:
    file = store.harvest()
    written = export(file, "resid", tmp_path, source="other-model/6-mine")
    payload = file.payload(FeatureId("resid", 3))
    rows = [row for row in lines(written.folder / "activations") if row["index"] == "3"]
    for row, context, tokens in zip(rows, payload.contexts, payload.tokens, strict=True):
        assert row["tokens"] == tokens and len(row["values"]) == len(tokens) == WINDOW
        acts = {
            p - context.start: a
            for p, a in zip(context.positions, context.activations, strict=True)
        }
        assert row["values"] == pytest.approx([acts.get(i, 0.0) for i in range(WINDOW)], abs=5e-4)
        assert max(row["values"]) == row["values"][row["maxValueTokenIndex"]]
        assert (row["binContains"] == -1) == (context.stratum == "top")
        if context.stratum == "range":
            assert row["binMin"] - 1e-3 <= context.value <= row["binMax"] + 1e-3
    assert {row["layer"] for row in rows} == {"6-mine"}


def test_signed_features_show_their_positive_side(store: Store, tmp_path: Path) -> None:
    file = store.harvest()
    written = export(file, "abs", tmp_path)
    assert all(row["maxValue"] > 0 for row in lines(written.folder / "activations"))
    side = file.facts(FeatureId("abs", 3)).positive
    row = lines(written.folder / "features")[3]
    assert side and (row["frac_nonzero"], row["maxActApprox"]) == (side.density, side.max_act)
    assert sum(row["freq_hist_data_bar_heights"]) == pytest.approx(sum(side.histogram or []), 1e-2)


def test_explanations_travel_and_are_read_again(store: Store, tmp_path: Path) -> None:
    take_in(store.catalog, checked("explanations", [EXPLAINED], "rows"))
    said = store.catalog.snapshot().explanations
    written = export(store.harvest(), "resid", tmp_path, explanations=said)
    assert written.explanations == 1
    found = read_path(written.folder, Names(sizes(store), {"": "resid"}))
    row = found.table.to_pylist()[0]
    assert {name: row[name] for name in EXPLAINED if name != "provenance"} == {
        name: value for name, value in EXPLAINED.items() if name != "provenance"
    }
    assert take_in(store.catalog, found).new == 0


def test_the_same_harvest_makes_the_same_bytes(store: Store, tmp_path: Path) -> None:
    folders = [export(store.harvest(), "resid", tmp_path / name).folder for name in "ab"]
    for path in folders[0].rglob("*.gz"):
        other = folders[1] / path.relative_to(folders[0])
        assert path.read_bytes() == other.read_bytes()


def test_an_interrupted_export_leaves_nothing(store: Store, tmp_path: Path) -> None:
    def interrupt(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(store.harvest(), "resid", tmp_path / "out", tell=interrupt)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_is_refused(store: Store, tmp_path: Path) -> None:
    file = store.harvest()
    for source in ("gpt2", "/x", "a/b/c", "a/b c", "a/.."):
        with pytest.raises(InputError, match=r"is not MODEL/LAYER-SET"):
            export(file, "resid", tmp_path, source=source)
    with pytest.raises(InputError, match="No dictionary"):
        export(file, "dogs", tmp_path)
    export(file, "resid", tmp_path)
    with pytest.raises(InputError, match="exists and is not empty"):
        export(file, "resid", tmp_path)


def test_bars_and_intervals_keep_the_counts() -> None:
    top = 5.3
    row = {
        "histogram": [4, 0, 9, 2, 1],
        "histogram_start": bin_of(top) - 4,
        "max_act": top,
        "density": 0.25,
    }
    heights, middles = bars(row)
    assert len(heights) == len(middles) == BARS and sum(heights) == pytest.approx(16, abs=0.1)
    assert middles[-1] < top and min(heights) >= 0
    found = intervals(row)
    assert sum(one.share for one in found) == pytest.approx(0.25)
    assert found[0].low == 0 and found[-1].high == pytest.approx(top)
    assert (
        bars({**row, "histogram": None}) == ([], []) and intervals({**row, "max_act": None}) == []
    )
