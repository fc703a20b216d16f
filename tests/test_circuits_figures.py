"""The figures of the Circuits page, and which checks it offers for which method."""

from dataclasses import replace

import pytest

from app.circuits import figures, layout, picture
from backend.circuits.one_prompt import CAPPED
from backend.circuits.records import Estimate, Node, Point, Way, error_id
from feature_store.graphs import Part
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
    found = kept(store, replace(CIRCUIT, method=method, facts=facts),
                 **replace(ONE, method=method, start=start).to_json())  # fmt: skip
    page = visit(experiment=found, node=NODES[0].id)
    buttons = {what: page.button(key=f"circuits_check_{what}") for what in ("nodes", "edges")}
    assert {what for what, one in buttons.items() if not one.disabled} == able
    assert all("cannot be checked: " in one.help for one in buttons.values() if one.disabled)
    assert ("check node" in {one.label for one in page.button}) == ("nodes" in able)


def test_a_share_beyond_one_is_explained(store: Store) -> None:  # noqa: F811
    over = (Point(4, "count", Estimate(1.084, None, None, 1)),)
    said = texts(visit(experiment=kept(store, replace(CIRCUIT, curves=over))))
    assert "above 1: nodes left out" in said
    far = (Point(4, "count", Estimate(4.3, None, None, 1)),)
    said = texts(visit(experiment=kept(store, replace(CIRCUIT, curves=far))))
    assert "it means little" in said and "above 1" not in said
    under = (Point(4, "count", Estimate(-0.2, None, None, 1)),)
    assert "below 0: these" in texts(visit(experiment=kept(store, replace(CIRCUIT, curves=under))))
    assert "above 1" not in texts(visit(experiment=kept(store)))


def test_what_a_heads_value_is() -> None:
    code = Node("head/2.1@*", "head", 2, None, "", 1, 0.1, 0.5)
    looks = Node("head/2.1@4<3", "head", 2, 4, "", 1, 0.1, 0.5)
    told = [picture.worth(one) for one in seen(code, looks)]
    assert "of the positives" in told[0] and told[1] == "attention 0.500"


def test_an_mlp_without_a_dictionary_is_called_so() -> None:
    hook = "blocks.2.hook_mlp_out"
    node = Node(error_id(hook, 1), "error", 2, 1, hook, None, 5.0, 1.0)
    (one,) = seen(node)
    assert picture.named(one) == "MLP 2, no dictionary"
    assert layout.row_of(one, lambda name: name)[2] == "MLP 2"
    assert "resid" in figures.errors(Part([one, *seen(*NODES[:5])], []))


def test_a_graph_that_holds_the_model_still_is_judged_so_too(store: Store) -> None:  # noqa: F811
    held = (
        Point(4, "count", Estimate(0.71), null=Estimate(0.13, n=200), null_95=0.26, nearer=0.98),
        Point(4, "remove", Estimate(0.48)),
    )
    said = texts(visit(experiment=kept(store, replace(CIRCUIT, held=held))))
    assert "held as on the prompt, which is what the graph speaks of: errors counted 0.71" in said
    assert "removed 0.48; random ones: median 0.13, 95th percentile 0.26, 98" in said
    assert "held as on the prompt" not in texts(visit(experiment=kept(store)))
    now: dict[Way, Point] = {"count": Point(4, "count", Estimate(0.35, n=1)), "held": held[0]}
    assert figures.now(now).endswith("with attention patterns and norms held **0.71**")


def test_what_to_beware_of_stands_above_the_graph(store: Store) -> None:  # noqa: F811
    """A soft-cap of the model's logits, for one."""
    note = f"m caps its logits softly, at 30: {CAPPED}"
    assert f":yellow[{note}]" in texts(
        visit(experiment=kept(store, replace(CIRCUIT, notes=(note,))))
    )
