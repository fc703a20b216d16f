"""The figures of the Circuits page, and which checks it offers for which method."""

from dataclasses import replace

import pytest

from app.circuits import figures, layout, picture
from backend.circuits.faithfulness_text import NOT_BETTER
from backend.circuits.records import (
    CircuitNode,
    Faithfulness,
    FaithfulnessPoint,
    NullFaithfulness,
    error_id,
)
from backend.circuits.single_prompt_faithfulness import LOGIT_CAP_NOTE
from backend.circuits.subcircuit_figures import SubcircuitFigures
from feature_store.circuit_graphs import CircuitSubgraph
from feature_store.statistics.estimate import Estimate
from feature_store.store import Store
from tests.test_circuits_page import (  # noqa: F401 - a fixture
    CIRCUIT,
    NODES,
    ONE,
    kept,
    seen,
    store,
    texts,
    visit,
)

NULL = NullFaithfulness(0.13, 0.0, 0.3, 0.26, 200, 0.98)


@pytest.mark.parametrize(
    ("method", "start", "able"),
    [
        ("sparse-features", "", {"nodes", "edges"}),
        ("attribution-graph", "", {"nodes", "edges"}),
        ("weights", "", {"nodes"}),
        ("trace", "resid/3", {"edges"}),
        ("head-codes", "", set()),
    ],
)
def test_what_can_be_checked_is_offered(
    store: Store,  # noqa: F811
    method: str,
    start: str,
    able: set[str],
) -> None:
    """The rest is shown with the reason why it cannot be."""
    facts = {} if method == "head-codes" or start else {"slot_of": [[-1, 1, 2]]}
    found = kept(
        store,
        replace(CIRCUIT, method=method, facts=facts),
        **replace(ONE, method=method, start=start).to_json(),
    )
    page = visit(experiment=found, node=NODES[0].id)
    buttons = {what: page.button(key=f"circuits_check_{what}") for what in ("nodes", "edges")}
    assert {what for what, one in buttons.items() if not one.disabled} == able
    assert all("cannot be checked: " in one.help for one in buttons.values() if one.disabled)
    assert ("check node" in {one.label for one in page.button}) == ("nodes" in able)


def test_a_share_beyond_one_is_explained(store: Store) -> None:  # noqa: F811

    def said_of(value: float) -> str:
        told = replace(CIRCUIT, faithfulness=Faithfulness(value, NULL, 4, n=1))
        return texts(visit(experiment=kept(store, told)))

    assert "above 1: nodes left out" in said_of(1.084)
    assert "it means little" in said_of(4.3) and "above 1" not in said_of(4.3)
    assert "below 0: these" in said_of(-0.2) and NOT_BETTER in said_of(-0.2)
    assert "above 1" not in texts(visit(experiment=kept(store)))


def test_what_a_heads_value_is() -> None:
    code = CircuitNode("head/2.1@*", "head", 2, None, "", 1, 0.1, 0.5)
    looks = CircuitNode("head/2.1@4<3", "head", 2, 4, "", 1, 0.1, 0.5)
    told = [picture.worth(one) for one in seen(code, looks)]
    assert "of the positives" in told[0] and told[1] == "attention 0.500"


def test_an_mlp_without_a_dictionary_is_called_so() -> None:
    hook = "blocks.2.hook_mlp_out"
    node = CircuitNode(error_id(hook, 1), "error", 2, 1, hook, None, 5.0, 1.0)
    (one,) = seen(node)
    assert picture.named(one) == "MLP 2, no dictionary"
    assert layout.row_of(one, lambda name: name)[2] == "MLP 2"
    assert "resid" in figures.errors(CircuitSubgraph([one, *seen(*NODES[:5])], []))


def test_a_graph_that_holds_the_model_still_is_judged_so_too(store: Store) -> None:  # noqa: F811
    held = (
        FaithfulnessPoint(4, "count", Estimate(0.71)),
        FaithfulnessPoint(4, "remove", Estimate(0.48)),
    )
    figure = Faithfulness(0.71, NULL, 4)
    told = replace(CIRCUIT, held=held, held_faithfulness=figure)
    said = texts(visit(experiment=kept(store, told)))
    assert "held as on the prompt, which is what the graph speaks of: errors counted 0.71" in said
    assert "removed 0.48; random ones: median 0.13, 95th percentile 0.26, 98" in said
    assert "held as on the prompt" not in texts(visit(experiment=kept(store)))
    point = FaithfulnessPoint(4, "count", Estimate(0.35, n=1))
    now = figures.of_shown(
        SubcircuitFigures({"count": point}, Faithfulness(0.25, NULL, 4, n=1), figure)
    )
    assert "with attention patterns and norms held **0.71** (random sets: 95th percent" in now
    assert f":red[random sets: 95th percentile 0.26, 200 draws; {NOT_BETTER}]" in now


def test_what_to_beware_of_stands_above_the_graph(store: Store) -> None:  # noqa: F811
    """A soft-cap of the model's logits, for one."""
    note = f"m soft-caps its logits at 30: {LOGIT_CAP_NOTE}"
    assert f":yellow[{note}]" in texts(
        visit(experiment=kept(store, replace(CIRCUIT, notes=(note,))))
    )
