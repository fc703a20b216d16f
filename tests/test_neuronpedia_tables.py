"""A dump goes through Neuronpedia's importer: what that asks of its rows, asked here.

Written down from apps/webapp/prisma/schema.prisma, lib/db/import.ts and app/api/admin/import of
hijohnnylin/neuronpedia as of 2026. The columns that are filled are the keys of a file's first line
that its table has. A null in a required column, a foreign key without its row, NUL, or a file
without a line ends the import.
"""

import gzip
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from feature_store.errors import InputError
from feature_store.exchange import neuronpedia_export
from feature_store.exchange.import_rows import check_rows
from feature_store.exchange.import_writer import save_import
from feature_store.exchange.neuronpedia_export import (
    NeuronpediaSource,
    export_dashboards,
    format_json_line,
)
from feature_store.store import Store
from tests.stores import D_SAE, make_store

TEXT, REAL, WHOLE, FLAG, TIME = "text", "real", "whole", "flag", "time"
OFTEN = {"modelId": TEXT, "layer": TEXT, "index": TEXT}
TABLES: dict[str, dict[str, Any]] = {
    "Neuron": {
        **OFTEN,
        "sourceSetName": TEXT,
        "creatorId": TEXT,
        "createdAt": TIME,
        "maxActApprox": REAL,
        "hasVector": FLAG,
        "vectorLabel": TEXT,
        "hookName": TEXT,
        "vector": [REAL],
        "topkCosSimIndices": [WHOLE],
        "topkCosSimValues": [REAL],
        "frac_nonzero": REAL,
        "neuron_alignment_indices": [WHOLE],
        "neuron_alignment_values": [REAL],
        "neuron_alignment_l1": [REAL],
        "correlated_neurons_indices": [WHOLE],
        "correlated_neurons_pearson": [REAL],
        "correlated_neurons_l1": [REAL],
        "correlated_features_indices": [WHOLE],
        "correlated_features_pearson": [REAL],
        "correlated_features_l1": [REAL],
        "neg_str": [TEXT],
        "neg_values": [REAL],
        "pos_str": [TEXT],
        "pos_values": [REAL],
        "freq_hist_data_bar_heights": [REAL],
        "freq_hist_data_bar_values": [REAL],
        "logits_hist_data_bar_heights": [REAL],
        "logits_hist_data_bar_values": [REAL],
        "decoder_weights_dist": [REAL],
    },
    "Activation": {
        **OFTEN,
        "id": TEXT,
        "tokens": [TEXT],
        "dataSource": TEXT,
        "maxValue": REAL,
        "maxValueTokenIndex": WHOLE,
        "minValue": REAL,
        "values": [REAL],
        "dfaValues": [REAL],
        "lossValues": [REAL],
        "creatorId": TEXT,
        "createdAt": TIME,
        "binMin": REAL,
        "binMax": REAL,
        "binContains": REAL,
        "qualifyingTokenIndex": WHOLE,
    },
    "Explanation": {
        **OFTEN,
        "id": TEXT,
        "authorId": TEXT,
        "description": TEXT,
        "notes": TEXT,
        "typeName": TEXT,
        "explanationModelName": TEXT,
    },
    "model": {
        "id": TEXT,
        "displayNameShort": TEXT,
        "displayName": TEXT,
        "creatorId": TEXT,
        "visibility": TEXT,
        "instruct": FLAG,
        "layers": WHOLE,
        "neuronsPerLayer": WHOLE,
        "createdAt": TIME,
        "owner": TEXT,
        "updatedAt": TIME,
    },
    "source": {
        "id": TEXT,
        "modelId": TEXT,
        "visibility": TEXT,
        "setName": TEXT,
        "creatorId": TEXT,
        "num_prompts": WHOLE,
        "num_tokens_in_prompt": WHOLE,
        "dataset": TEXT,
        "notes": TEXT,
        "createdAt": TIME,
    },
    "sourceset": {
        "modelId": TEXT,
        "name": TEXT,
        "visibility": TEXT,
        "description": TEXT,
        "type": TEXT,
        "creatorName": TEXT,
        "urls": [TEXT],
        "creatorId": TEXT,
        "releaseName": TEXT,
        "createdAt": TIME,
    },
    "release": {
        "name": TEXT,
        "visibility": TEXT,
        "description": TEXT,
        "urls": [TEXT],
        "creatorName": TEXT,
        "creatorId": TEXT,
        "createdAt": TIME,
    },
}
MAY_BE_NULL = {"vectorLabel", "hookName", "notes", "typeName", "explanationModelName", "dataSource"}
FOLDERS = {"features": "Neuron", "activations": "Activation", "explanations": "Explanation"}
EXTRA = {"Explanation": {"saefari"}}
"""Keys that are no column: passed over in batches, and refused by the four small files."""


def fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, list):
        return isinstance(value, list) and all(fits(one, kind[0]) for one in value)
    if kind == TIME:
        return bool(datetime.fromisoformat(value))
    if kind == TEXT:
        return isinstance(value, str) and "\0" not in value and bool(value.encode() or not value)
    if kind == FLAG:
        return isinstance(value, bool)
    return isinstance(value, int if kind == WHOLE else int | float) and not isinstance(value, bool)


def imported(text: str, table: str) -> Iterator[dict[str, Any]]:
    """The rows of a file as the importer takes them."""
    lines = text.replace("\\u0000", " ").strip().split("\n")
    first = json.loads(lines[0])
    columns = TABLES[table]
    assert first.keys() <= columns.keys() | EXTRA.get(table, set())
    for row in json.loads(f"[{','.join(lines)}]"):
        assert row.keys() == first.keys()
        for name, kind in columns.items():
            if name in first and not (row[name] is None and name in MAY_BE_NULL):
                assert fits(row[name], kind), (table, name, row[name])
        yield row


def database(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """All rows of a dump, in the order in which they are imported."""
    found = {}
    for name in ("release", "model", "sourceset", "source"):
        found[name] = list(imported((folder / f"{name}.jsonl").read_text(), name))
    for part, table in FOLDERS.items():
        files = sorted((folder / part).glob("batch-*.jsonl.gz"))
        texts = [gzip.decompress(file.read_bytes()).decode() for file in files]
        found[table] = [row for text in texts for row in imported(text, table)]
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = make_store(tmp_path / "store")
    rows = [
        {
            "dictionary": "resid",
            "feature": number,
            "text": text,
            "explainer": "pattern",
            "model": model,
            "author": "model",
            "provenance": json.dumps({"source": source}),
        }
        for number, (text, model, source) in enumerate(
            [("dogs\0", "", ""), ("cats \\u0000", "m", "delphi"), ("ants", "gpt", "neuronpedia")]
        )
    ]
    save_import(store.catalog, check_rows("explanations", rows, "rows"))
    return store


@pytest.mark.parametrize("dictionary", ["resid", "abs"])
def test_every_row_is_taken(
    store: Store, tmp_path: Path, dictionary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neuronpedia_export, "FEATURES_PER_FILE", 7)
    said = store.catalog.snapshot().explanations
    written = export_dashboards(store.harvest(), dictionary, tmp_path / "out", explanations=said)
    found = database(written.folder)
    (model,), (source,), (set_,) = found["model"], found["source"], found["sourceset"]
    assert set_["modelId"] == source["modelId"] == model["id"] == written.folder.parent.name
    assert source["id"] == written.folder.name and source["setName"] == set_["name"]
    assert set_["releaseName"] == found["release"][0]["name"]
    keys = {(row["modelId"], row["layer"], row["index"]) for row in found["Neuron"]}
    assert len(keys) == D_SAE and {key[:2] for key in keys} == {(model["id"], source["id"])}
    for row in found["Neuron"]:
        assert row["sourceSetName"] == set_["name"] and 0 <= row["frac_nonzero"] <= 1
        heights, values = row["freq_hist_data_bar_heights"], row["freq_hist_data_bar_values"]
        assert len(heights) == len(values) and all(type(n) is int and n >= 0 for n in heights)
        assert len(row["pos_str"]) == len(row["pos_values"])
        assert len(row["topkCosSimIndices"]) == len(row["topkCosSimValues"])
    for table in ("Activation", "Explanation"):
        ids = [row["id"] for row in found[table]]
        assert len(set(ids)) == len(ids)
        assert {(row["modelId"], row["layer"], row["index"]) for row in found[table]} <= keys
    for row in found["Activation"]:
        assert 1 <= len(row["tokens"]) == len(row["values"]) <= 1024
        assert row["maxValue"] == max(row["values"]) == row["values"][row["maxValueTokenIndex"]]
        assert row["binMin"] <= row["binMax"] and row["binContains"] <= 1


def test_only_types_that_neuronpedia_knows_are_named(store: Store, tmp_path: Path) -> None:
    """Its tables of types and models have what came from there; others go into the notes."""
    said = store.catalog.snapshot().explanations
    written = export_dashboards(store.harvest(), "resid", tmp_path / "out", explanations=said)
    rows = database(written.folder)["Explanation"]
    assert [(row["typeName"], row["explanationModelName"]) for row in rows] == [
        (None, None),
        (None, None),
        ("pattern", "gpt"),
    ]
    assert [row["notes"] for row in rows] == ["pattern", "pattern, m", "pattern, gpt"]
    assert [row["description"] for row in rows] == ["dogs\ufffd", "cats \\u0000", "ants"]


def test_a_file_without_a_line_is_not_written(store: Store, tmp_path: Path) -> None:
    """Features that never fired can fill a batch, and an empty file ends the import."""
    folder = tmp_path / "x"
    folder.mkdir()
    neuronpedia_export.write_json_lines(folder / "a.jsonl.gz", [])
    neuronpedia_export.write_json_lines(folder / "b.jsonl.gz", ["{}"])
    for name in "ab":
        neuronpedia_export.remove_empty_file(folder / f"{name}.jsonl.gz")
    assert [path.name for path in folder.iterdir()] == ["b.jsonl.gz"]


@pytest.mark.parametrize(
    "text", ["\0", "\\u0000", "\\\\u0000", "a\\\0u0000", "\ud83d", "\\", "u0000"]
)
def test_any_text_survives_the_importers_replacement(text: str) -> None:
    line = format_json_line({"text": text}).replace("\\u0000", " ")
    assert json.loads(line)["text"] == text.replace("\0", "\ufffd").replace("\ud83d", "\ufffd")


def test_sources_are_named_so_that_a_layer_is_found(store: Store) -> None:
    file = store.harvest()
    info = file.dictionary("resid")
    assert NeuronpediaSource.for_dictionary(file, info, None) == NeuronpediaSource(
        "tiny", "1-resid"
    )
    for said in ("Tiny/1-mine", "tiny/mine", "tiny/x-mine", "tiny/1"):
        with pytest.raises(InputError, match="a layer's number"):
            NeuronpediaSource.for_dictionary(file, info, said)
