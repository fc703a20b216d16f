"""Estimated effects are held against exact ablation, and paths are added until both agree."""

import pytest
import torch

from backend.circuits.checked_effects import (
    CHECKED,
    checked_effects,
    compare_effects,
    strongest_keys,
)
from backend.circuits.effects import assign_paths, effects, node_keys
from backend.circuits.exact import exact
from backend.circuits.examples import gather
from backend.circuits.grounds import Grounds
from backend.circuits.records import Circuit
from backend.circuits.sparse_features import EFFECTS_OFF, Settings, sparse_features
from backend.circuits.table import Table
from tests.test_circuits_sparse import CASES, engine  # noqa: F401 - a fixture


def grounds_of(engine, some, baseline: str = "zero") -> Grounds:  # noqa: F811
    return Grounds(engine.lm, list(engine.dictionaries.values()), baseline, some)  # pyright: ignore


@pytest.mark.parametrize("baseline", ["zero", "mean", "pair"])
def test_measured_values_are_the_exact_ablations_of_the_strongest(engine, baseline: str) -> None:  # noqa: F811
    some = gather(engine, CASES[:5])
    grounds = grounds_of(engine, some, baseline)
    found = checked_effects(engine.lm, grounds, some)
    top = found.table.rows(torch.arange(len(found.measured)))
    wanted = exact(engine.lm, grounds, some, top.which, top.slot, top.feature)
    assert torch.allclose(found.measured, wanted, atol=1e-5)
    assert found.check.nodes == min(CHECKED, len(found.table))
    assert found.check.reached or found.check.paths == 64


def test_nodes_alone_on_their_paths_are_their_exact_ablations(engine) -> None:  # noqa: F811
    """Integrated gradients of one node along its own path are its ablation, within the gap."""
    some = gather(engine, CASES[:1])
    grounds = grounds_of(engine, some)
    first = effects(engine.lm, grounds, some)
    sizes = {d.name: d.d_sae for d in grounds.dictionaries}
    alone = {one.name: strongest_keys(one, sizes[one.name], 8) for one in first}
    second = effects(engine.lm, grounds, some, "integrated", 16, alone=alone)
    table = Table.of(second)
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
    heavy = table.rows(own.nonzero()[:, 0])
    measured = exact(engine.lm, grounds, some, heavy.which, heavy.slot, heavy.feature)
    assert len(heavy) == 8 * len(first)
    assert float((heavy.effect - measured).abs().sum()) <= 0.04 * float(measured.abs().sum())


def test_every_node_has_one_path_and_those_alone_have_their_own() -> None:
    keys = torch.arange(500)
    shared = assign_paths(keys, 8)
    assert set(shared.tolist()) == set(range(8))
    alone = torch.tensor([7, 300, 11])
    paths = assign_paths(keys, 8, alone)
    assert paths[alone].tolist() == [0, 1, 2]
    others = torch.ones(500, dtype=torch.bool)
    others[alone] = False
    assert set(paths[others].tolist()) == {3, 4, 5, 6, 7}


def test_only_the_dictionaries_asked_for_are_estimated(engine) -> None:  # noqa: F811
    some = gather(engine, CASES[:1])
    grounds = grounds_of(engine, some)
    (one,) = effects(engine.lm, grounds, some, only=["mlp"])
    both = {found.name: found for found in effects(engine.lm, grounds, some)}
    assert one.name == "mlp" and torch.equal(one.effect, both["mlp"].effect)


def test_the_bar_is_spearman_and_slope() -> None:
    measured = torch.linspace(-1, 1, 20).numpy()
    assert compare_effects(measured, measured).reached
    assert not compare_effects(measured * 0.5, measured).reached  # slope 2
    assert not compare_effects(measured[::-1].copy(), measured).reached
    half = compare_effects(measured * 0.5, measured)
    assert half.median_error == pytest.approx(0.5) and half.slope == pytest.approx(2)
    assert not compare_effects(measured[:2], measured[:2]).reached  # nothing is said of two


def test_paths_are_added_until_the_check_agrees(engine, monkeypatch) -> None:  # noqa: F811
    """With a bar out of reach all paths are used, and the circuit says that they do not agree."""
    some = gather(engine, CASES[:1])
    settings = Settings(nodes=10, draws=0, most_paths=32)
    easy = sparse_features(engine, some, settings=settings)
    assert easy.effect_check and easy.effect_check.reached and EFFECTS_OFF not in easy.notes
    monkeypatch.setattr("backend.circuits.records.LEAST_SPEARMAN", 1.1)
    hard = sparse_features(engine, some, settings=settings)
    assert hard.effect_check and hard.effect_check.paths == 32 and EFFECTS_OFF in hard.notes


def test_exact_values_stand_beside_the_estimates(engine) -> None:  # noqa: F811
    some = gather(engine, CASES[:1])
    circuit = sparse_features(engine, some, settings=Settings(nodes=60, draws=0))
    judged = [node for node in circuit.nodes if node.kind != "logit"]
    assert [node.exact is None for node in judged] == [i >= CHECKED for i in range(len(judged))]
    again = Circuit.from_json(circuit.to_json())
    assert again == circuit and again.effect_check == circuit.effect_check
