"""The layout of Neuronpedia's dumps: every feature, and numbers that are the harvest's own."""

import gzip
import json
from pathlib import Path

import pytest

from feature_store.activation_histogram import bin_number
from feature_store.errors import InputError
from feature_store.exchange import neuronpedia_export
from feature_store.exchange.activation_intervals import N_BARS, histogram_bars, split_into_intervals
from feature_store.exchange.dictionary_names import DictionaryNames
from feature_store.exchange.import_reader import read_dictionary_sizes, read_import_path
from feature_store.exchange.import_rows import check_rows
from feature_store.exchange.import_writer import save_import
from feature_store.exchange.neuronpedia_export import export_dashboards
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
    monkeypatch.setattr(neuronpedia_export, "FEATURES_PER_FILE", 16)
    monkeypatch.setattr(neuronpedia_export, "CONTEXTS_PER_CHUNK", 100)
    file, heard = store.harvest(), []
    written = export_dashboards(
        file, "resid", tmp_path, report_progress=lambda done, of: heard.append((done, of))
    )
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
    written = export_dashboards(file, "resid", tmp_path, source="other-model/6-mine")
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
    written = export_dashboards(file, "abs", tmp_path)
    assert all(row["maxValue"] > 0 for row in lines(written.folder / "activations"))
    side = file.facts(FeatureId("abs", 3)).positive
    row = lines(written.folder / "features")[3]
    assert side and (row["frac_nonzero"], row["maxActApprox"]) == (side.density, side.max_act)
    assert sum(row["freq_hist_data_bar_heights"]) == pytest.approx(sum(side.histogram or []), 1e-2)


def test_explanations_travel_and_are_read_again(store: Store, tmp_path: Path) -> None:
    save_import(store.catalog, check_rows("explanations", [EXPLAINED], "rows"))
    said = store.catalog.snapshot().explanations
    written = export_dashboards(store.harvest(), "resid", tmp_path, explanations=said)
    assert written.explanations == 1
    found = read_import_path(
        written.folder, DictionaryNames(read_dictionary_sizes(store), {"": "resid"})
    )
    row = found.table.to_pylist()[0]
    assert {name: row[name] for name in EXPLAINED if name != "provenance"} == {
        name: value for name, value in EXPLAINED.items() if name != "provenance"
    }
    assert save_import(store.catalog, found).new == 0


def test_the_same_harvest_makes_the_same_bytes(store: Store, tmp_path: Path) -> None:
    folders = [export_dashboards(store.harvest(), "resid", tmp_path / name).folder for name in "ab"]
    for path in folders[0].rglob("*.gz"):
        other = folders[1] / path.relative_to(folders[0])
        assert path.read_bytes() == other.read_bytes()


def test_an_interrupted_export_leaves_nothing(store: Store, tmp_path: Path) -> None:
    def interrupt(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_dashboards(store.harvest(), "resid", tmp_path / "out", report_progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_is_refused(store: Store, tmp_path: Path) -> None:
    file = store.harvest()
    for source in ("gpt2", "/x", "a/b/c", "a/b c", "a/.."):
        with pytest.raises(InputError, match=r"is not MODEL/LAYER-SET"):
            export_dashboards(file, "resid", tmp_path, source=source)
    with pytest.raises(InputError, match="No dictionary"):
        export_dashboards(file, "dogs", tmp_path)
    export_dashboards(file, "resid", tmp_path)
    with pytest.raises(InputError, match="exists and is not empty"):
        export_dashboards(file, "resid", tmp_path)


def test_bars_and_intervals_keep_the_counts() -> None:
    top = 5.3
    row = {
        "histogram": [4, 0, 9, 2, 1],
        "histogram_start": bin_number(top) - 4,
        "max_act": top,
        "density": 0.25,
    }
    heights, middles = histogram_bars(row)
    assert len(heights) == len(middles) == N_BARS and sum(heights) == pytest.approx(16, abs=0.1)
    assert middles[-1] < top and min(heights) >= 0
    found = split_into_intervals(row)
    assert sum(one.share for one in found) == pytest.approx(0.25)
    assert found[0].low == 0 and found[-1].high == pytest.approx(top)
    assert (
        histogram_bars({**row, "histogram": None}) == ([], [])
        and split_into_intervals({**row, "max_act": None}) == []
    )
