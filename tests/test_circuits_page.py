"""The Circuits page: where nodes stand, what is asked, what is marked, and what is said."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.circuits import layout, picture, running, taking
from app.circuits.asked import CircuitRequest
from app.circuits.methods import METHODS
from app.circuits.starts import FeatureAt, ScoreAt, parse
from app.wording import share
from backend.ablation.ablation_requests import PromptCase
from backend.circuits.faithfulness_text import NOT_BETTER
from backend.circuits.graph_file_export import export_circuit_tracer
from backend.circuits.records import (
    Circuit,
    CircuitEdge,
    CircuitNode,
    CircuitPrompt,
    Faithfulness,
    FaithfulnessPoint,
    NullFaithfulness,
    error_id,
    feature_id,
    logit_id,
    token_id,
)
from feature_store.circuit_graphs import GROUP_PREFIX, GraphNode, SubgraphSelection
from feature_store.errors import InputError
from feature_store.records import FeatureId
from feature_store.saved_circuits import CircuitMarks, SavedCircuits
from feature_store.statistics.estimate import Estimate
from feature_store.store import Store
from tests.stores import make_store

MAIN = Path(__file__).resolve().parent.parent / "app" / "main.py"
ONE = CircuitRequest("sparse-features", ("resid",), (PromptCase("the dog", " sat"),))
TOKENS = ("<s>", " the", " dog")


def feature(index: int, effect: float, position: int = 1, dictionary: str = "resid") -> CircuitNode:
    id = feature_id(dictionary, index, position)
    return CircuitNode(id, "feature", 1, position, dictionary, index, effect, 2.0)


NODES = (
    feature(1, -2.0),
    feature(2, 1.0, 2),
    feature(3, 0.5, 2),
    feature(4, 0.25),
    CircuitNode(error_id("resid", 1), "error", 1, 1, "resid", None, 0.125, 1.0),
    CircuitNode(token_id(1), "token", -1, 1, "", 1, None, None, " the"),
    CircuitNode(logit_id(4, 2), "logit", 3, 2, "", 4, None, 0.5, " sat"),
)
EDGES = (
    CircuitEdge(NODES[0].id, NODES[6].id, -2.0),
    CircuitEdge(NODES[1].id, NODES[6].id, 1.0),
    CircuitEdge(NODES[5].id, NODES[0].id, 0.5),
    CircuitEdge(NODES[3].id, NODES[1].id, 0.25),
)
CIRCUIT = Circuit(
    "sparse-features",
    "tiny",
    (CircuitPrompt("the dog", TOKENS),),
    "logit( sat)",
    NODES,
    EDGES,
    "zero",
    ("resid",),
    TOKENS,
    clean=Estimate(3.0),
    empty=Estimate(0.5),
    faithfulness=Faithfulness(
        0.9, NullFaithfulness(0.1, 0.0, 0.2, 0.16, 200, 0.98), 4, "count", 0.8, 1.0, 20
    ),
    curves=(
        FaithfulnessPoint(2, "count", Estimate(0.7, 0.6, 0.8, 20)),
        FaithfulnessPoint(4, "count", Estimate(0.9, 0.8, 1.0, 20)),
        FaithfulnessPoint(4, "remove", Estimate(0.3, 0.2, 0.4, 20)),
    ),
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with a circuit on its page."""
    found = make_store(tmp_path / "store")
    monkeypatch.setenv("SAEFARI_STORE", str(found.path))
    monkeypatch.setenv("SAEFARI_JOBS", "1")
    return found


def kept(store: Store, circuit: Circuit = CIRCUIT, **request: object) -> str:
    return SavedCircuits(store.catalog).save(
        circuit.to_json(),
        harvest="tiny-0001",
        model="tiny",
        model_hash="00",
        dictionaries={},
        request=request or ONE.to_json(),
        versions={},
    )


def visit(**query: str) -> AppTest:
    page = AppTest.from_file(str(MAIN), default_timeout=60)
    page.switch_page("views/circuits.py")
    for name, value in query.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception, page.exception
    return page


def graph(page: AppTest) -> dict:
    """What the graph's component was given."""
    (found,) = [one for one in page.get("bidi_component") if one.key == "circuits_graph"]
    return json.loads(found.proto.json)


def texts(page: AppTest) -> str:
    """What is written, without the backslashes that keep it plain text."""
    found = [one.value for kind in ("markdown", "caption") for one in page.get(kind)]
    return "\n".join(found).replace("\\", "")


def press(page: AppTest, label: str) -> AppTest:
    (button,) = [one for one in page.button if one.label == label]
    page = button.click().run()
    assert not page.exception, page.exception
    return page


def seen(*nodes: CircuitNode) -> list[GraphNode]:
    plain = [
        {name: getattr(n, name) for name in GraphNode.__dataclass_fields__ if hasattr(n, name)}
        for n in nodes
    ]
    return [GraphNode(**one, in_circuit=True) for one in plain]


def test_no_two_nodes_stand_in_one_place() -> None:
    nodes = seen(
        *(
            feature(i, 1.0, i % 3, f"{site}-{i % 2}")
            for i, site in enumerate(["attn", "mlp", "resid"] * 60)
        )
    )
    places = layout.lay(nodes, TOKENS).place
    assert len(set(places.values())) == len(nodes)


def test_layers_rise_and_tokens_run_to_the_right() -> None:
    found = layout.lay(seen(*NODES), TOKENS)
    rows, columns = {text: y for y, text in found.rows}, {text: x for x, text in found.columns}
    assert rows["logits"] < rows["resid"] < rows["tokens"]
    assert columns[" the"] < columns[" dog"]
    assert found.place[NODES[0].id][0] < found.place[NODES[1].id][0]


def test_within_a_layer_what_is_written_first_stands_lower() -> None:
    nodes = seen(*(feature(i, 1.0, 1, name) for i, name in enumerate(["r", "a", "m"])))
    hooks = {
        "r": "blocks.1.hook_resid_post",
        "a": "blocks.1.attn.hook_z",
        "m": "blocks.1.hook_mlp_out",
    }
    found = layout.lay(nodes, TOKENS, hooks.__getitem__)
    assert [text for _, text in sorted(found.rows, reverse=True)] == ["a", "m", "r"]


def test_heads_of_a_layer_stand_in_one_line_in_their_order() -> None:
    heads = [
        CircuitNode(f"head/1.{i}@*", "head", 1, None, "", i, 1.0 / (i + 1)) for i in (4, 0, 3, 1, 2)
    ]
    place = layout.lay(seen(*heads), TOKENS).place
    left_to_right = sorted(place, key=lambda one: place[one][0])
    assert left_to_right == [f"head/1.{i}@*" for i in range(5)]
    assert len({y for _, y in place.values()}) == 1


def test_the_end_of_a_template_stands_last() -> None:
    nodes = seen(*(feature(i, 1.0, i) for i in range(4)))
    found = layout.lay(nodes, ("rest", "end", "S1", "S2"))
    assert [text for _, text in sorted(found.columns)] == ["rest", "S1", "S2", "end"]


def test_the_area_of_a_node_grows_with_its_effect() -> None:
    small, large = (picture.size(effect, 4.0) for effect in (1.0, -4.0))
    assert large == picture.LARGEST
    assert small - picture.SMALLEST == pytest.approx((large - picture.SMALLEST) / 2, abs=0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "sparse-feature"}, "Did you mean 'sparse-features'"),
        ({"cases": ()}, "There is no prompt"),
        ({"nodes": 0}, "The number of nodes is 0: give 1 to 2,000."),
        ({"edges": 30_000}, "give 1 to 20,000"),
        ({"baseline": "pair"}, "needs a corrupt prompt for every prompt"),
        ({"baseline": "mean"}, "at least 5 of them, and there is 1"),
        ({"baseline": "nothing"}, "No baseline called 'nothing'"),
        ({"errors": "drop"}, "No way with error terms called 'drop'"),
        ({"against": (" ran",)}, "something to compare with and no target"),
        ({"start": "resid/3"}, "sparse-features explains next tokens"),
        ({"start": "3"}, "DICTIONARY/INDEX"),
        ({"start": "head:2@3"}, "head:LAYER.HEAD@QUERY,KEY"),
        ({"method": "trace", "start": "resid/3", "targets": (" a",)}, "not both"),
        ({"task": "nothing"}, "No task called 'nothing'"),
        ({"method": "attribution-graph", "cases": ONE.cases * 2}, "reads 1 prompt at a time"),
    ],
)
def test_what_cannot_be_asked_is_said(change: dict, said: str) -> None:
    with pytest.raises(InputError) as refused:
        replace(ONE, **change).check()
    assert said in str(refused.value)


def test_starts() -> None:
    assert parse("a/b/3") == FeatureAt(FeatureId("a/b", 3))
    assert parse("a/3@12") == FeatureAt(FeatureId("a", 3), 12)
    assert parse("head:2.1@14,4") == ScoreAt(2, 1, 14, 4)


def test_a_request_comes_back_from_json() -> None:
    asked = replace(ONE, targets=(" sat", " ran"), against=(" the",), nodes=7, baseline="zero")
    assert CircuitRequest.from_json(json.loads(json.dumps(asked.to_json()))) == asked


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_module_that_runs(name: str) -> None:
    import importlib

    assert callable(importlib.import_module(METHODS[name].module).run)


def test_over_budget_is_cut_and_said() -> None:
    cut = running.within(CIRCUIT, nodes=2, edges=1)
    assert [node.id for node in cut.nodes] == [NODES[i].id for i in (0, 1, 5, 6)]
    assert cut.edges == EDGES[:1]
    assert "the strongest 2 of 5 nodes and the strongest 1 of 3 edges" in cut.notes[-1]
    assert running.within(CIRCUIT, nodes=5, edges=4) is CIRCUIT


def test_an_empty_store_says_what_to_do(store: Store) -> None:
    assert "No circuit yet" in texts(visit())


def test_a_circuit_opens_by_its_link(store: Store) -> None:
    page = visit(experiment=kept(store))
    assert len(graph(page)["nodes"]) == len(NODES)
    said = texts(page)
    assert "faithfulness** 0.90 [0.80, 1.00] (random sets: 95th percentile 0.16, 200" in said
    assert "removed 0.30" in said and "of all 4 nodes" in said and NOT_BETTER not in said
    assert "on the model 3.00" in said


def test_the_curves_stand_below_with_their_null(store: Store) -> None:
    page = visit(experiment=kept(store))
    said = texts(page)
    assert (
        "Random active nodes of the same composition, 200 draws: median 0.10, 95th percentile"
        in said
    )
    assert len(page.get("plotly_chart")) == 1
    bare = replace(CIRCUIT, curves=())
    assert not visit(experiment=kept(store, bare)).get("plotly_chart")


def test_pruned_it_keeps_error_terms_and_says_what_was_measured(store: Store) -> None:
    page = visit(experiment=kept(store), nodes="3", edges="1")
    inside = {one["id"]: one["inside"] for one in graph(page)["nodes"]}
    assert inside == {n.id: True for n in NODES if n not in NODES[3:5]} | {NODES[4].id: False}
    assert "of all 4 nodes" in texts(page)


def test_pins_hidden_nodes_and_groups_are_kept_with_the_circuit(store: Store) -> None:
    name = kept(store)
    page = press(visit(experiment=name, node=NODES[3].id), "pin")
    page = press(visit(experiment=name, node=NODES[2].id), "hide")
    page.session_state["circuits_chosen"] = (name, [NODES[0].id, NODES[1].id])
    page.run()
    page.text_input(key="circuits_group_name").set_value("verbs")
    page = press(page, "Group")
    assert SavedCircuits(store.catalog).read_marks(name) == CircuitMarks(
        (NODES[3].id,), (NODES[2].id,), {"verbs": (NODES[0].id, NODES[1].id)}
    )
    shown = graph(visit(experiment=name, nodes="1"))
    assert {one["id"] for one in shown["nodes"]} == {
        GROUP_PREFIX + "verbs",
        NODES[3].id,
        NODES[4].id,
        NODES[5].id,
        NODES[6].id,
    }
    press(visit(experiment=name, node=GROUP_PREFIX + "verbs"), "Ungroup")
    assert SavedCircuits(store.catalog).read_marks(name).groups == {}


def test_a_path_is_marked_though_it_was_pruned_away(store: Store) -> None:
    name = kept(store)
    page = visit(experiment=name, nodes="1")
    page.session_state["circuits_chosen"] = (name, [NODES[3].id, NODES[6].id])
    page = press(page.run(), "path between them")
    assert graph(page)["marked"] == [NODES[3].id, NODES[1].id, NODES[6].id]
    page = press(page, next(b.label for b in page.button if b.label.startswith("path between res")))
    assert graph(page)["marked"] == []


def test_beside_a_feature_stand_its_own_panels_and_its_edges(store: Store) -> None:
    page = visit(experiment=kept(store), node=NODES[1].id)
    keys = {one.key for one in page.get("bidi_component")}
    assert {"circuits_up", "circuits_down", "feature_contexts", "feature_logits"} <= keys


def test_edges_say_how_often_they_hold(store: Store) -> None:
    edges = (replace(EDGES[0], stability=0.981), replace(EDGES[1], stability=0.5), *EDGES[2:])
    page = visit(experiment=kept(store, replace(CIRCUIT, edges=edges)), node=NODES[6].id, edges="1")
    assert "stable edges** 1 of 2" in texts(page)
    (table,) = [one for one in page.get("bidi_component") if one.key == "circuits_up"]
    given = json.loads(table.proto.json)
    assert [one["name"] for one in given["columns"]][-1] == "holds"
    assert [row["cells"][-1] for row in given["rows"]] == [share(0.981), share(0.5)]
    assert "stable edges" not in texts(visit(experiment=kept(store)))


def test_edges_can_be_pruned_by_stability(store: Store) -> None:
    """Where it is known; the link keeps it."""
    edges = (replace(EDGES[0], stability=0.981), replace(EDGES[1], stability=0.5), *EDGES[2:])
    name = kept(store, replace(CIRCUIT, edges=edges))
    page = visit(experiment=name, edges="1")
    assert len(graph(page)["edges"]["weight"]) == 4
    page.select_slider(key="circuits_stable").set_value(0.95).run()
    assert page.query_params["stable"] in ("0.95", ["0.95"])
    for shown in (page, visit(experiment=name, edges="1", stable="0.95")):
        assert graph(shown)["edges"]["weight"] == [-2.0, 0.5, 0.25]
        assert "stable edges** 1 of 1" in texts(shown)
    other = visit(experiment=kept(store, replace(CIRCUIT, target="other")), stable="0.95")
    assert "circuits_stable" not in {one.key for one in other.select_slider}


def test_a_feature_of_an_unknown_dictionary_has_no_panels(store: Store) -> None:
    other = replace(CIRCUIT, nodes=(feature(1, 1.0, 1, "elsewhere"),), edges=())
    page = visit(experiment=kept(store, other), node=feature_id("elsewhere", 1, 1))
    assert "feature_contexts" not in {one.key for one in page.get("bidi_component")}


def test_an_unknown_circuit_is_a_sentence(store: Store) -> None:
    kept(store)
    assert "There is no experiment 'nothing'" in texts(visit(experiment="nothing"))


def test_the_experiments_page_knows_circuits(store: Store) -> None:
    name = kept(store)
    kept(
        store,
        replace(CIRCUIT, target="x"),
        **CircuitRequest("trace", (), task="induction").to_json(),
    )
    page = AppTest.from_file(str(MAIN), default_timeout=60)
    page.switch_page("views/experiments.py")
    page.query_params["experiment"] = name
    page.run()
    assert not page.exception, page.exception
    assert f"run {name}" in texts(page)
    assert page.selectbox[1].label == "Compare with"


def test_running_without_a_prompt_says_so(store: Store) -> None:
    assert "There is no prompt. Type one." in texts(press(visit(), "Run"))


def test_pairs_are_the_baseline_where_there_are_pairs(store: Store) -> None:
    page = visit()
    page.segmented_control(key="circuits_f_source").set_value("pairs").run()
    assert not page.exception
    assert page.selectbox(key="circuits_f_baseline").value == "pair"
    page.segmented_control(key="circuits_f_source").set_value("prompts").run()
    assert page.selectbox(key="circuits_f_baseline").value == "zero"


def test_a_run_is_a_job_with_the_whole_request(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.jobs import starting
    from feature_store.jobs import Jobs

    monkeypatch.setattr(starting, "spawn", lambda store, job: None)
    press(visit(prompts="the dog", target=" sat", method="attribution-graph"), "Run")
    (job,) = Jobs(store.path).list_jobs()
    asked = CircuitRequest.from_json(job.arguments["request"])
    assert asked.cases == (PromptCase("the dog"),) and asked.targets == (" sat",)
    assert (asked.method, asked.dictionaries) == ("attribution-graph", ("resid", "abs"))


def test_export_and_import_are_the_same_circuit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app import session
    from app.session import Place

    place = Place(store.harvest(), store.harvest().dictionary("resid"))
    monkeypatch.setattr(session, "store", lambda: store)
    data = export_circuit_tracer(CIRCUIT, "x")
    ids = {one["saefari"]["id"]: one["node_id"] for one in data["nodes"]}
    data["qParams"] |= {
        "pinnedIds": [ids[NODES[0].id]],
        "supernodes": [["verbs", ids[NODES[1].id], ids[NODES[2].id]]],
    }
    name = taking.imported(place, "x.json", json.dumps(data).encode())
    circuits = SavedCircuits(store.catalog)
    found = circuits.open(name)
    assert found.marks == CircuitMarks((NODES[0].id,), (), {"verbs": (NODES[1].id, NODES[2].id)})
    part = circuits.read_graph(found.graph).select_subgraph(SubgraphSelection())
    assert {n.id for n in part.nodes} == {n.id for n in NODES}
    assert part.edges == [(e.source, e.target, e.weight) for e in EDGES]


def test_a_malformed_graph_is_named_and_nothing_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app import session
    from app.session import Place

    place = Place(store.harvest(), store.harvest().dictionary("resid"))
    monkeypatch.setattr(session, "store", lambda: store)
    data = export_circuit_tracer(CIRCUIT, "x") | {"qParams": {"supernodes": 3}}
    with pytest.raises(InputError, match="supernodes a list of lists"):
        taking.imported(place, "x.json", json.dumps(data).encode())
    assert not store.catalog.path.exists()


def test_a_label_that_is_markup_stays_text(store: Store) -> None:
    evil = CircuitNode(
        token_id(0), "token", -1, 0, "", 0, None, None, "<img src=x onerror=alert(1)>"
    )
    name = kept(store, replace(CIRCUIT, nodes=(*NODES, evil)))
    page = visit(experiment=name, node=evil.id)
    written = [one.value for one in page.get("markdown")]
    assert any("\\<img" in text for text in written)
    assert not any("<img" in text.replace("\\<", "") for text in written)
