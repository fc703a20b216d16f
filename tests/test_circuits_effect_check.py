"""Estimated effects are held against exact ablation, and paths are added until both agree."""

import pytest
import torch

from backend.circuits.circuit_prompts import lay_out_circuit_prompts
from backend.circuits.effect_refinement import (
    CHECKED_NODES,
    compare_with_exact_effects,
    refine_node_effects,
    strongest_node_keys,
)
from backend.circuits.node_baselines import NodeBaselines
from backend.circuits.node_effects import assign_integration_paths, estimate_node_effects, node_keys
from backend.circuits.node_table import NodeTable
from backend.circuits.records import Circuit
from backend.circuits.single_node_ablation import ablate_single_nodes
from backend.circuits.sparse_feature_circuit import (
    INACCURATE_EFFECTS_NOTE,
    SparseFeatureSettings,
    find_sparse_feature_circuit,
)
from tests.test_circuits_sparse import CASES, engine  # noqa: F401 - a fixture


def grounds_of(engine, some, baseline: str = "zero") -> NodeBaselines:  # noqa: F811
    return NodeBaselines(engine.lm, list(engine.dictionaries.values()), baseline, some)  # pyright: ignore


@pytest.mark.parametrize("baseline", ["zero", "mean", "pair"])
def test_measured_values_are_the_exact_ablations_of_the_strongest(engine, baseline: str) -> None:  # noqa: F811
    some = lay_out_circuit_prompts(engine, CASES[:5])
    baselines = grounds_of(engine, some, baseline)
    found = refine_node_effects(engine.lm, baselines, some)
    top = found.table.select(torch.arange(len(found.measured)))
    wanted = ablate_single_nodes(engine.lm, baselines, some, top.which, top.slot, top.feature)
    assert torch.allclose(found.measured, wanted, atol=1e-5)
    assert found.check.nodes == min(CHECKED_NODES, len(found.table))
    assert found.check.reached or found.check.paths == 64


def test_nodes_alone_on_their_paths_are_their_exact_ablations(engine) -> None:  # noqa: F811
    """Integrated gradients of one node along its own path are its ablation, within the gap."""
    some = lay_out_circuit_prompts(engine, CASES[:1])
    baselines = grounds_of(engine, some)
    first = estimate_node_effects(engine.lm, baselines, some)
    sizes = {d.name: d.d_sae for d in baselines.dictionaries}
    alone = {one.name: strongest_node_keys(one, sizes[one.name], 8) for one in first}
    second = estimate_node_effects(engine.lm, baselines, some, "integrated", 16, alone=alone)
    table = NodeTable.from_effects(second)
    keys = [
        int(node_keys(slot, feature, sizes[table.names[int(which)]]))
        for which, slot, feature in zip(table.which, table.slot, table.feature, strict=True)
    ]
    own = torch.tensor(
        [
            key in alone[table.names[int(which)]].tolist()
            for key, which in zip(keys, table.which, strict=True)
        ]
    )
    heavy = table.select(own.nonzero()[:, 0])
    measured = ablate_single_nodes(
        engine.lm, baselines, some, heavy.which, heavy.slot, heavy.feature
    )
    assert len(heavy) == 8 * len(first)
    assert float((heavy.effect - measured).abs().sum()) <= 0.04 * float(measured.abs().sum())


def test_every_node_has_one_path_and_those_alone_have_their_own() -> None:
    keys = torch.arange(500)
    shared = assign_integration_paths(keys, 8)
    assert set(shared.tolist()) == set(range(8))
    alone = torch.tensor([7, 300, 11])
    paths = assign_integration_paths(keys, 8, alone)
    assert paths[alone].tolist() == [0, 1, 2]
    others = torch.ones(500, dtype=torch.bool)
    others[alone] = False
    assert set(paths[others].tolist()) == {3, 4, 5, 6, 7}


def test_only_the_dictionaries_asked_for_are_estimated(engine) -> None:  # noqa: F811
    some = lay_out_circuit_prompts(engine, CASES[:1])
    baselines = grounds_of(engine, some)
    (one,) = estimate_node_effects(engine.lm, baselines, some, only=["mlp"])
    both = {found.name: found for found in estimate_node_effects(engine.lm, baselines, some)}
    assert one.name == "mlp" and torch.equal(one.effect, both["mlp"].effect)


def test_the_bar_is_spearman_and_slope() -> None:
    measured = torch.linspace(-1, 1, 20).numpy()
    assert compare_with_exact_effects(measured, measured).reached
    assert not compare_with_exact_effects(measured * 0.5, measured).reached  # slope 2
    assert not compare_with_exact_effects(measured[::-1].copy(), measured).reached
    half = compare_with_exact_effects(measured * 0.5, measured)
    assert half.median_error == pytest.approx(0.5) and half.slope == pytest.approx(2)
    assert not compare_with_exact_effects(
        measured[:2], measured[:2]
    ).reached  # nothing is said of two


def test_paths_are_added_until_the_check_agrees(engine, monkeypatch) -> None:  # noqa: F811
    """With a bar out of reach all paths are used, and the circuit says that they do not agree."""
    some = lay_out_circuit_prompts(engine, CASES[:1])
    settings = SparseFeatureSettings(nodes=10, draws=0, most_paths=32)
    easy = find_sparse_feature_circuit(engine, some, settings=settings)
    assert (
        easy.effect_check
        and easy.effect_check.reached
        and INACCURATE_EFFECTS_NOTE not in easy.notes
    )
    monkeypatch.setattr("backend.circuits.records.LEAST_SPEARMAN", 1.1)
    hard = find_sparse_feature_circuit(engine, some, settings=settings)
    assert (
        hard.effect_check
        and hard.effect_check.paths == 32
        and INACCURATE_EFFECTS_NOTE in hard.notes
    )


def test_exact_values_stand_beside_the_estimates(engine) -> None:  # noqa: F811
    some = lay_out_circuit_prompts(engine, CASES[:1])
    circuit = find_sparse_feature_circuit(
        engine, some, settings=SparseFeatureSettings(nodes=60, draws=0)
    )
    judged = [node for node in circuit.nodes if node.kind != "logit"]
    assert [node.exact is None for node in judged] == [
        i >= CHECKED_NODES for i in range(len(judged))
    ]
    again = Circuit.from_json(circuit.to_json())
    assert again == circuit and again.effect_check == circuit.effect_check
