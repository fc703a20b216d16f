"""Circuits of one prompt, run for real: shares from 0 to 1, nodes and edges as they promise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.circuits.attribution_graph import AttributionGraph, build_attribution_graph
from backend.circuits.attribution_graph_circuit import find_attribution_circuit
from backend.circuits.circuit_prompts import CircuitPromptSet
from backend.circuits.circuit_session import CircuitSession
from backend.circuits.complement_ablation import ComplementAblation
from backend.circuits.direct_effect_checks import check_direct_edges
from backend.circuits.node_and_edge_checks import (
    build_circuit_node_table,
    check_nodes,
    predict_node_effects,
)
from backend.circuits.node_baselines import NodeBaselines
from backend.circuits.node_effects import estimate_node_effects
from backend.circuits.node_table import NodeTable
from backend.circuits.patch_free_tracing import LogitStart, trace_to_sources
from backend.circuits.records import Circuit
from backend.circuits.single_prompt_faithfulness import (
    append_other_active_nodes,
    build_single_prompt,
    freeze_complement_ablation,
    measure_single_prompt_faithfulness,
    select_logit_targets,
)
from backend.circuits.sparse_feature_circuit import (
    SparseFeatureSettings,
    find_sparse_feature_circuit,
)
from backend.circuits.weight_paths_circuit import build_weight_paths_circuit
from backend.engine import LocalEngine
from backend.engine_protocol import TokenizedText
from feature_store.errors import InputError
from tests.models import shared
from tests.test_circuits_graph import prompt, transcoder

ANSWERS = {
    "one": ((7,), ()),
    "difference": ((7,), (9,)),
    "sets": ((7, 3), (9, 5)),
    "likeliest": ((), ()),
}


@pytest.fixture(scope="module")
def engine(tiny_lm, tmp_path_factory: pytest.TempPathFactory) -> LocalEngine:
    """A transcoder of every MLP, so that nothing but attention is free."""
    folder = tmp_path_factory.mktemp("one")
    found = [transcoder(folder, layer) for layer in range(3)]
    return LocalEngine(tiny_lm, {one.name: one for one in found}, bos=0)


def text() -> TokenizedText:
    given = prompt()
    return TokenizedText([0, *given.token_ids[1:]], given.counted)


def graph(engine: LocalEngine, target: str = "difference", share: float = 1.0) -> Circuit:
    answers, against = ANSWERS[target]
    return find_attribution_circuit(
        engine.lm,
        list(engine.dictionaries.values()),
        text(),
        answers=answers,
        against=against,
        node_share=share,
        edge_share=1.0,
    )


def traced(engine: LocalEngine) -> Circuit:
    dictionaries = list(engine.dictionaries.values())
    return trace_to_sources(
        engine.lm, dictionaries, text(), LogitStart((7,), (9,)), nodes=500, edge_share=1.0
    )


@pytest.mark.parametrize("target", ANSWERS)
def test_the_target_is_what_the_graph_explains(engine: LocalEngine, target: str) -> None:
    """The weighted sum of logits is the weighted sum of the aims' own values."""
    aims = select_logit_targets(engine, text(), *ANSWERS[target])
    some = build_single_prompt(engine, text(), aims)
    with torch.no_grad():
        found = some.batch.target(engine.lm.logits(some.batch.prompts.tokens))
    held = build_attribution_graph(
        engine.lm, list(engine.dictionaries.values()), text(), lambda _: aims
    )
    wanted = held.values[held.kinds.logit] @ [aim.weight for aim in aims]
    assert float(found[0]) == pytest.approx(float(wanted), rel=1e-4)


def test_everything_is_the_model(engine: LocalEngine) -> None:
    """The nodes of a graph and all others that are active: with them nothing is taken away."""
    some = build_single_prompt(engine, text(), select_logit_targets(engine, text(), (7,), (9,)))
    dictionaries = list(engine.dictionaries.values())
    baselines = NodeBaselines(engine.lm, dictionaries, "zero", some)
    kept, _ = build_circuit_node_table(graph(engine, share=0.5), list(engine.dictionaries))
    table = append_other_active_nodes(kept, baselines.read_dictionaries(some))
    assert len(kept) < len(table) and len(
        {*zip(table.which.tolist(), table.slot.tolist(), table.feature.tolist(), strict=True)}
    ) == len(table)
    ablation = ComplementAblation(engine.lm, baselines, some)
    assert ablation.run(table, table.strongest_sets([len(table)]))[0] == pytest.approx(
        ablation.clean, abs=2e-3
    )


def as_a_network(held: AttributionGraph, kept: np.ndarray) -> float:
    """The first aim when of all that stands at counted tokens only the kept features are there,
    each as active as its edges from kept features make it: the graph's numbers and gates alone."""
    places = held.sources
    counted = held.replacement.counted[0].tolist()
    loose = np.array([counted[place.position] for place in places]) & ~held.kinds.token[:-1]
    share = np.where(loose, 0.0, 1.0)  # of what each source had
    for v in np.argsort([place.site for place in places], kind="stable"):
        if kept[v]:
            lost = held.effects[v, :-1] @ (1 - share)
            share[v] = max(0.0, held.values[v] - lost) / places[v].value
    return float(held.values[-1] - held.effects[-1, :-1] @ (1 - share))


def test_held_still_a_circuit_is_its_graph_run_as_a_network(engine: LocalEngine) -> None:
    """What nodes give by ablation follows from the edges between them and the gates, exactly; with
    patterns and norms left to the model it does not."""
    dictionaries = list(engine.dictionaries.values())
    aims = select_logit_targets(engine, text(), (7,), (9,))
    some = build_single_prompt(engine, text(), aims)
    graph = build_attribution_graph(engine.lm, dictionaries, text(), lambda _: aims)
    free = ComplementAblation(engine.lm, NodeBaselines(engine.lm, dictionaries, "zero", some), some)
    half = np.random.default_rng(0).random(len(graph.sources)) < 0.5
    kept = half & graph.kinds.feature[:-1]
    names = [site.name for site in graph.replacement.sites]
    member = {
        (names[at.site], at.position, at.feature)
        for at, stays in zip(graph.sources, kept, strict=True)
        if stays
    }
    table = NodeTable.from_effects(
        estimate_node_effects(engine.lm, free.baselines, some, "gradient")
    )
    rows = zip(table.which.tolist(), table.slot.tolist(), table.feature.tolist(), strict=True)
    sets = torch.tensor([[(table.names[k], at, id) in member for k, at, id in rows]])
    assert int(sets.sum()) == len(member) > 20
    wanted = as_a_network(graph, kept)
    held = freeze_complement_ablation(free).run(table, sets, "remove")[0, 0]
    assert held == pytest.approx(wanted, rel=1e-4)
    assert free.run(table, sets, "remove")[0, 0] != pytest.approx(wanted, rel=1e-2)
    assert free.clean[0] != pytest.approx(wanted, rel=1e-2)


def test_a_part_is_judged_as_it_was_when_it_was_found(engine: LocalEngine) -> None:
    """Nothing of it is nothing; all of it is the last point of its curve; and it is kept."""
    whole = measure_single_prompt_faithfulness(
        engine, graph(engine, share=0.7), text(), (7,), (9,), draws=5
    )
    assert whole.baseline == "zero" and Circuit.from_json(whole.to_json()) == whole
    shown = CircuitSession(engine, whole)
    held = whole.held_faithfulness
    nothing = shown.measure([]).faithfulness
    assert nothing is not None and nothing.value == pytest.approx(0, abs=1e-6)
    found = shown.measure([n.id for n in whole.nodes])
    assert held and found.held and found.held.value == pytest.approx(held.value, abs=1e-4)
    last = [p for p in whole.curves if p.nodes == max(p.nodes for p in whole.curves)]
    assert {p.errors: p.share for p in last} == {
        way: replace(point.share, value=pytest.approx(point.share.value, abs=1e-4))
        for way, point in found.points.items()
        if point.share
    }
    assert found.points["count"].share != found.points["remove"].share


def test_what_is_predicted_of_a_node_is_what_a_trace_says(engine: LocalEngine) -> None:
    """Two roads to what comes through a node: the traced graph's sums, and the tracer's own."""
    mine, theirs = predict_node_effects(graph(engine)), predict_node_effects(traced(engine))
    both = [id for id in mine if id in theirs]
    assert len(both) > 20
    for id in both:
        assert mine[id] == pytest.approx(theirs[id], rel=1e-3, abs=1e-5)


def test_last_features_are_predicted_by_their_edge_and_measured_nearly_so(engine) -> None:
    """Behind the last MLP only the final norm bends what a feature sends to the logits."""
    circuit = measure_single_prompt_faithfulness(engine, graph(engine), text(), (7,), (9,), draws=0)
    found = {id: (a, b) for id, a, b in check_nodes(engine, circuit)["pairs"]}
    goal = next(n.id for n in circuit.nodes if n.kind == "logit")
    edges = {e.source: e.weight for e in circuit.edges if e.target == goal}
    last = [id for id in found if id.startswith("t2/") and id in edges]
    assert len(last) >= 3
    for id in last:
        assert found[id][0] == pytest.approx(-edges[id], rel=1e-3, abs=1e-6)
    assert np.corrcoef(np.array([found[id] for id in last]).T)[0, 1] > 0.5


@pytest.mark.parametrize("method", [graph, traced])
def test_held_still_an_edge_is_its_intervention(engine: LocalEngine, method) -> None:
    circuit = replace(method(engine), facts={"aim": {"answers": [7], "against": [9]}})
    found = check_direct_edges(engine, circuit)
    frozen = found["frozen"]["relative_error"]
    assert frozen["n"] > 20 and frozen["largest"] < 0.01
    for begin in ("token", "t0/error"):
        edge = next(e for e in circuit.edges if e.source.startswith(begin))
        one = check_direct_edges(engine, circuit, [(edge.source, edge.target)])["frozen"]["pairs"]
        assert one[0][3] == pytest.approx(-edge.weight, rel=1e-3, abs=1e-6)
    free = found["free"]["agreement"]
    assert free["n"] == len(circuit.edges[:200]) and free["spearman"] > 0.5
    assert found["direct"]["pairs"] != found["frozen"]["pairs"]


def test_what_cannot_be_checked_is_said(engine: LocalEngine) -> None:
    circuit = graph(engine)
    with pytest.raises(InputError, match="no edge from"):
        goal = circuit.nodes[-1].id
        check_direct_edges(engine, circuit, [(goal, goal)])
    with pytest.raises(InputError, match="not direct effects"):
        check_direct_edges(engine, replace(circuit, method="weights"))
    with pytest.raises(InputError, match="does not record the positions"):
        CircuitSession(engine, replace(circuit, baseline="zero")).measure([])


def test_paths_are_run_too(engine: LocalEngine) -> None:
    dictionaries = list(engine.dictionaries.values())
    paths = build_weight_paths_circuit(engine.lm, dictionaries, text(), LogitStart((7,), (9,)))
    circuit = measure_single_prompt_faithfulness(engine, paths, text(), (7,), (9,), draws=5)
    assert circuit.faithfulness is not None and circuit.faithfulness.null.draws == 5
    strongest = next(n for n in circuit.nodes if n.exact is not None)
    ((id, _, measured),) = check_nodes(engine, circuit, [strongest.id])["pairs"]
    assert (id, measured) == (strongest.id, pytest.approx(strongest.exact, abs=1e-5))
    assert any("run freely" in note and "attention" in note for note in circuit.notes)
    pairs = check_nodes(engine, circuit)["pairs"]
    given = {n.id: n.effect or 0.0 for n in circuit.nodes}
    assert pairs and all(predicted == -given[id] for id, predicted, _ in pairs)


def test_a_soft_cap_on_the_logits_is_said(engine: LocalEngine, tmp_path: Path) -> None:
    """Graphs and sparse circuits of such a model are approximate; of others nothing is said."""
    one = transcoder(tmp_path, 0)
    gemma = LocalEngine(shared("gemma2"), {one.name: one}, bos=0)
    for live, told in ((gemma, True), (engine, False)):
        found = measure_single_prompt_faithfulness(live, graph(live), text(), (7,), (9,), draws=0)
        sparse = find_sparse_feature_circuit(
            live, found_again(live), settings=SparseFeatureSettings(nodes=5, draws=0)
        )
        for circuit in (found, sparse):
            assert any("soft-caps its logits at 30" in n for n in circuit.notes) == told


def found_again(engine: LocalEngine) -> CircuitPromptSet:
    return build_single_prompt(engine, text(), select_logit_targets(engine, text(), (7,), (9,)))
