"""Parts of a kept circuit, judged as one prunes it: the stored curve is a special case."""

import pytest

from backend.circuits.circuit_prompts import lay_out_circuit_prompts
from backend.circuits.circuit_session import CircuitSession
from backend.circuits.records import Circuit
from backend.circuits.sparse_feature_circuit import (
    SparseFeatureSettings,
    find_sparse_feature_circuit,
)
from feature_store.errors import InputError
from tests.test_circuits_sparse import CASES, engine  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def circuit(engine) -> Circuit:  # noqa: F811
    return find_sparse_feature_circuit(
        engine,
        lay_out_circuit_prompts(engine, CASES[:1]),
        settings=SparseFeatureSettings(nodes=12, draws=0),
    )


def test_the_whole_graph_is_its_point_of_the_curve(engine, circuit: Circuit) -> None:  # noqa: F811
    found = CircuitSession(engine, Circuit.from_json(circuit.to_json())).measure(
        [n.id for n in circuit.nodes]
    )
    assert found.faithfulness and found.faithfulness.null.draws == 200
    for way in ("count", "keep", "remove"):
        (stored,) = [p for p in circuit.curves if (p.nodes, p.errors) == (12, way)]
        assert found.points[way].nodes == 12
        for name in ("share", "completeness"):
            now, then = getattr(found.points[way], name), getattr(stored, name)
            assert (now and now.value) == (then and pytest.approx(then.value, abs=1e-4))


def test_nothing_of_it_is_nothing(engine, circuit: Circuit) -> None:  # noqa: F811
    found = CircuitSession(engine, circuit).measure([])
    assert found.faithfulness is not None and found.faithfulness.value == pytest.approx(0)
    assert not found.faithfulness.better_than_random


def test_a_circuit_without_a_baseline_cannot_be_judged(engine) -> None:  # noqa: F811
    with pytest.raises(InputError, match="the method trace have no baseline"):
        CircuitSession(engine, Circuit("trace", "tiny", (), "x", (), ())).measure([])
