"""Faithfulness is never told without its null: of every method, in record, command and files."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.circuits.methods import METHODS
from backend.circuits.circuit_format_1 import NO_NULL_NOTE
from backend.circuits.faithfulness_text import (
    NOT_BETTER,
    describe_faithfulness_null,
    describe_random_set_verdict,
)
from backend.circuits.graph_file_export import (
    GRAPHML_NAMESPACE,
    export_circuit_tracer,
    export_graphml,
)
from backend.circuits.graph_file_import import read_circuit_tracer
from backend.circuits.records import Circuit, Faithfulness, NullFaithfulness
from feature_store.errors import InputError
from feature_store.saved_circuits import SavedCircuits
from feature_store.store import Store
from tests.commands import World, answer, data
from tests.test_circuits_proof import record
from tests.test_cli_circuit import PROMPT, store, words, world  # noqa: F401 - fixtures

NULL = NullFaithfulness(0.1, 0.0, 0.3, 0.25, 200, 0.9)
OTHERS = [
    "a big dog saw the old ball and then the dog",
    "the red ball",
    "the dog took a cat",
    "the cat was old",
    "a dog saw a cat",
]


def figures_in(told: Any) -> Iterator[Any]:
    """What stands under a name with faithfulness in it, at any depth."""
    if isinstance(told, dict):
        for key, value in told.items():
            if "faithfulness" in key and value is not None:
                yield value
            yield from figures_in(value)
    elif isinstance(told, list):
        for one in told:
            yield from figures_in(one)


@pytest.mark.parametrize("method", METHODS)
def test_every_figure_of_every_method_has_its_null(
    world: World,  # noqa: F811
    store: Path,  # noqa: F811
    tmp_path: Path,
    method: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In what the command prints as data and in words, and in what it keeps."""
    asked = words(world, method=method, store=store)
    if method == "head-codes":
        file = tmp_path / "prompts.jsonl"
        file.write_text(
            "".join(json.dumps({"prompt": one, "pair": PROMPT}) + "\n" for one in OTHERS)
        )
        asked = words(
            world, method=method, store=store, prompt=None, target=None, against=None, prompts=file
        )
    found = data(asked, capsys)
    kept = SavedCircuits(Store(store).catalog).open(found["experiment"]).experiment.result
    told = list(figures_in(found))
    assert list(figures_in(kept)) == told
    assert len(told) == {"head-codes": 0, "sparse-features": 1}.get(method, 2)
    for one in told:
        assert one["null"]["draws"] == 200 and one["null"]["percentile_95"] is not None
        assert isinstance(one["better_than_random"], bool)
    said = answer(asked, capsys)
    assert said.count("95th percentile") == len(told)
    assert said.count(NOT_BETTER) == sum(not one["better_than_random"] for one in told)


def test_there_is_no_faithfulness_without_a_null() -> None:
    with pytest.raises(TypeError):
        Faithfulness(0.9)  # pyright: ignore[reportCallIssue]
    for bad in (None, 0.3, replace(NULL, draws=0)):
        with pytest.raises(InputError, match="without its null"):
            Faithfulness(0.9, bad, 4)  # pyright: ignore[reportArgumentType]
    plain = record().to_json()
    for null in (None, 0.25, {}):
        with pytest.raises(InputError):
            Circuit.from_json(plain | {"faithfulness": plain["faithfulness"] | {"null": null}})
    with pytest.raises(InputError):
        Circuit.from_json(plain | {"faithfulness": 0.9})


shares = st.floats(-3, 3, allow_nan=False)


@settings(max_examples=40)
@given(value=shares, draws=st.lists(shares, min_size=200, max_size=200))
def test_a_circuit_below_its_null_is_called_so(value: float, draws: list[float]) -> None:
    """Where nothing overshoots the whole model, not above the 95th percentile means not better;
    where something does, fewer than 95 % of sets further from the model means it."""
    low, median, high, top = map(float, np.quantile(draws, [0.025, 0.5, 0.975, 0.95]))
    nearer = float((abs(np.array(draws) - 1) > abs(value - 1)).mean())
    figure = Faithfulness(value, NullFaithfulness(median, low, high, top, 200, nearer), 4)
    if max(value, top) <= 1:
        assert figure.better_than_random == (value > top)
    else:
        assert figure.better_than_random == (nearer >= 0.95)
    assert (NOT_BETTER in describe_random_set_verdict(figure)) == (not figure.better_than_random)
    assert "95th percentile" in describe_faithfulness_null(figure)


def test_files_carry_both() -> None:
    circuit = record()
    file = json.dumps(export_circuit_tracer(_placed(circuit), "s"))
    about = json.loads(file)
    assert all("null" in one for one in figures_in(about)) and list(figures_in(about))
    assert read_circuit_tracer(file).faithfulness == circuit.faithfulness
    root = ET.fromstring(export_graphml(circuit))
    names = {
        one.get("id"): one.get("attr.name") for one in root.iter(f"{{{GRAPHML_NAMESPACE}}}key")
    }
    graph = root.find(f"{{{GRAPHML_NAMESPACE}}}graph")
    assert graph is not None
    told = {
        names[one.get("key")]: one.text for one in graph.findall(f"{{{GRAPHML_NAMESPACE}}}data")
    }
    assert told["faithfulness_value"] == "0.5" and told["faithfulness_percentile_95"] == "0.25"
    assert told["faithfulness_better_than_random"] == "true"


def _placed(circuit: Circuit) -> Circuit:
    nodes = [replace(node, position=node.position or 1) for node in circuit.nodes]
    return replace(circuit, nodes=tuple(nodes))


def test_a_record_of_the_first_format_keeps_what_had_a_null() -> None:
    """Its curve stays; faithfulness without a null is not told any more, and a note says so."""
    plain = record().to_json()
    del plain["held_faithfulness"], plain["effect_check"]
    share = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    nothing = dict.fromkeys(("completeness", "null", "null_95", "nearer"))
    point: dict[str, Any] = {"nodes": 1, "errors": "count", "faithfulness": share, **nothing}
    old = plain | {"format": 1, "faithfulness": share, "curves": [point]}
    bare = Circuit.from_json(old)
    assert bare.faithfulness is None and NO_NULL_NOTE in bare.notes
    assert bare.curves[0].share and bare.curves[0].share.value == 0.5
    point |= {
        "null": {"value": 0.1, "low": 0.0, "high": 0.3, "n": 200},
        "null_95": 0.25,
        "nearer": 0.99,
    }
    whole = Circuit.from_json(old | {"curves": [point]})
    assert whole.faithfulness == record().faithfulness and NO_NULL_NOTE not in whole.notes
