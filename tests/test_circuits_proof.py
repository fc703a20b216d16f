"""The proof: sets of nodes run for real, their shares, their null; and the record."""

import json

import numpy as np
import pytest
import torch

from backend.circuits.circuit_prompts import (
    CircuitPromptSet,
    lay_out_circuit_prompts,
    restore_circuit_prompts,
)
from backend.circuits.complement_ablation import ComplementAblation
from backend.circuits.faithfulness import (
    estimate_faithfulness,
    is_clearly_different,
    measure_faithfulness_curves,
    measure_node_set,
    measure_node_set_with_null,
)
from backend.circuits.node_baselines import NodeBaselines
from backend.circuits.node_effects import estimate_node_effects
from backend.circuits.node_table import NodeTable, log_spaced_sizes
from backend.circuits.records import (
    Circuit,
    CircuitEdge,
    CircuitNode,
    CircuitPrompt,
    Faithfulness,
    FaithfulnessPoint,
    NullFaithfulness,
)
from backend.circuits.sparse_feature_circuit import (
    SparseFeatureSettings,
    find_sparse_feature_circuit,
)
from backend.circuits.task_prompt_pairs import TASK_CORRUPTIONS, sample_prompt_pairs
from feature_store.errors import InputError
from feature_store.statistics.estimate import Estimate
from tests.linear_models import MLP, R0, R1, LinearLm, directions, prompts
from tests.test_circuits_sparse import CASES, engine, engine_of  # noqa: F401 - a fixture

WAYS = ("count", "keep", "remove")


def judge_of(
    engine,  # noqa: F811
    baseline: str = "zero",
    cases=CASES,
) -> tuple[ComplementAblation, NodeTable, CircuitPromptSet]:
    some = lay_out_circuit_prompts(engine, cases)
    baselines = NodeBaselines(engine.lm, list(engine.dictionaries.values()), baseline, some)  # pyright: ignore
    table = NodeTable.from_effects(estimate_node_effects(engine.lm, baselines, some, "gradient"))
    return ComplementAblation(engine.lm, baselines, some), table, some


@pytest.mark.parametrize("baseline", ["zero", "mean", "resample", "pair"])
def test_everything_is_the_model_and_nothing_is_nothing(engine, baseline: str) -> None:  # noqa: F811
    """All nodes are the model, and all but none."""
    ablation, table, _ = judge_of(engine, baseline)
    assert np.allclose(
        ablation.run(table, table.strongest_sets([len(table)])), ablation.clean, atol=2e-3
    )
    assert np.allclose(
        ablation.run(table, table.strongest_sets([0]), without=True), ablation.clean, atol=2e-3
    )


@pytest.mark.parametrize("baseline", ["zero", "mean", "resample", "pair"])
def test_all_but_everything_is_nothing(engine, baseline: str) -> None:  # noqa: F811
    """At one dictionary: above an edit, other features may come on that are no nodes."""
    some = lay_out_circuit_prompts(engine, CASES)
    baselines = NodeBaselines(engine.lm, [engine.dictionaries["mlp"]], baseline, some)  # pyright: ignore
    table = NodeTable.from_effects(estimate_node_effects(engine.lm, baselines, some, "gradient"))
    ablation = ComplementAblation(engine.lm, baselines, some)
    none = ablation.run(table, table.strongest_sets([0]))
    assert np.allclose(
        ablation.run(table, table.strongest_sets([len(table)]), without=True), none, atol=2e-3
    )
    assert not np.allclose(none, ablation.clean, atol=0.05)


def test_tokens_normalised_one_by_one_are_the_model_too(tmp_path) -> None:
    ablation, table, _ = judge_of(engine_of(tmp_path, norm="layer_norm"))
    assert np.allclose(
        ablation.run(table, table.strongest_sets([len(table)])), ablation.clean, atol=2e-3
    )
    assert np.allclose(
        ablation.run(table, table.strongest_sets([0]), without=True), ablation.clean, atol=2e-3
    )


def test_with_a_pair_nothing_is_the_corrupt_prompt(engine) -> None:  # noqa: F811
    """All that a residual dictionary cuts is the twin's, and so is the answer, but for BOS."""
    ablation, table, some = judge_of(engine, "pair")
    assert some.batch.partners is not None
    with torch.no_grad():
        corrupt = some.batch.target(engine.lm.logits(some.batch.partners.tokens))
    assert np.allclose(
        ablation.run(table, table.strongest_sets([0]))[0], corrupt.numpy(), atol=2e-3
    )


def test_errors_count_stay_or_go(engine) -> None:  # noqa: F811
    """Kept: the features alone are the model. Removed: all nodes are the reconstruction."""
    ablation, table, some = judge_of(engine)
    features = (~table.error_mask)[None]
    assert np.allclose(ablation.run(table, features, "keep")[0], ablation.clean, atol=2e-3)
    everything = table.strongest_sets([len(table)])
    removed = ablation.run(table, everything, "remove")[0]
    assert np.allclose(ablation.run(table, features, "count")[0], removed, atol=2e-3)
    assert not np.allclose(removed, ablation.clean, atol=0.05)
    assert len(some) == len(removed)


def test_a_set_is_what_it_is_alone_and_in_company(engine) -> None:  # noqa: F811
    ablation, table, _ = judge_of(engine)
    sets = table.strongest_sets([3, 11, 40])
    for errors in WAYS:
        together = ablation.run(table, sets, errors)  # pyright: ignore
        for one, found in zip(sets, together, strict=True):
            assert np.allclose(ablation.run(table, one[None], errors)[0], found, atol=1e-3)  # pyright: ignore


def test_taking_one_node_away_is_decoding_without_it(engine) -> None:  # noqa: F811
    """At a single dictionary, all but one node is the stream less that node's part."""
    some = lay_out_circuit_prompts(engine, CASES[:1])
    d = engine.dictionaries["attn"]
    baselines = NodeBaselines(engine.lm, [d], "zero", some)
    table = NodeTable.from_effects(estimate_node_effects(engine.lm, baselines, some, "gradient"))
    row = int((~table.error_mask).nonzero()[0, 0])
    (site,) = baselines.read_dictionaries(some)
    active = site.activations.active
    mine = (active.position == table.slot[row]) & (active.feature == table.feature[row])
    value = torch.where(mine, 0.0, active.value)
    gone = site.activations.decode_feature_values(value) - site.activations.decode_feature_values(
        active.value
    )
    tokens = some.batch.prompts.tokens
    with torch.no_grad():
        wanted = some.batch.target(engine.lm.logits(tokens, {d.hook_out: lambda h: h + gone}))
    one = torch.zeros(1, len(table), dtype=torch.bool)
    one[0, row] = True
    ablation = ComplementAblation(engine.lm, baselines, some)
    assert ablation.run(table, one, without=True)[0] == pytest.approx(wanted.numpy(), abs=1e-4)


def test_shares_of_a_linear_model_are_its_effects() -> None:
    """With one dictionary, F(C) - F(∅) is what the kept nodes' effects add up to."""
    lm, some = LinearLm(), prompts(6)
    baselines = NodeBaselines(lm, [directions("a", R0)], "zero", some)  # pyright: ignore
    table = NodeTable.from_effects(estimate_node_effects(lm, baselines, some, "gradient"))  # pyright: ignore
    ablation = ComplementAblation(lm, baselines, some)  # pyright: ignore
    sets = table.strongest_sets([0, 1, 5, len(table)])
    found = ablation.run(table, sets).mean(1)
    for member, value in zip(sets, found, strict=True):
        kept = -float(table.effect[member].sum())
        assert value - found[0] == pytest.approx(kept, abs=1e-4)


def test_curves_go_from_nothing_to_one() -> None:
    lm, some = LinearLm(), prompts(12)
    lm.E = lm.E + 2 * (lm.U[:, 1] - lm.U[:, 2])  # every token speaks for the answer
    both = [directions("a", R0), directions("t", R0, MLP, seed=1), directions("b", R1)]
    baselines = NodeBaselines(lm, both, "zero", some)  # pyright: ignore
    table = NodeTable.from_effects(estimate_node_effects(lm, baselines, some, "gradient"))  # pyright: ignore
    ablation = ComplementAblation(lm, baselines, some)  # pyright: ignore
    found = measure_faithfulness_curves(ablation, table, [2, len(table)], nulls=[2], draws=30)
    assert found.is_defined
    full = found.point_at(len(table), "count")
    assert full and full.share and full.completeness
    assert full.share.value == pytest.approx(1, abs=1e-3)
    assert full.completeness.value == pytest.approx(0, abs=1e-3)
    few, point = found.figures[2], found.point_at(2, "count")
    assert few.null.draws == 30 and few.null.low <= few.null.median <= few.null.percentile_95
    assert point and point.share and few.value == point.share.value
    assert measure_node_set(ablation, table, table.strongest_sets([2])[0]).share == point.share
    assert measure_node_set_with_null(ablation, table, table.strongest_sets([2])[0], draws=30) == (
        point,
        few,
    )
    assert {point.errors for point in found.points} == set(WAYS)


def test_nearer_counts_random_sets_that_end_further_from_the_model() -> None:
    """On either side of it: more than the whole is as far off as less."""
    lm, some = LinearLm(), prompts(6)
    baselines = NodeBaselines(lm, [directions("a", R0)], "zero", some)  # pyright: ignore
    table = NodeTable.from_effects(estimate_node_effects(lm, baselines, some, "gradient"))  # pyright: ignore
    ablation, n = ComplementAblation(lm, baselines, some), len(table) // 2  # pyright: ignore
    sets = torch.cat([table.strongest_sets([n]), table.random_sets(torch.arange(n), 40, 0)])
    off = abs(ablation.run(table, sets).mean(1) - ablation.clean.mean())
    figure = measure_faithfulness_curves(ablation, table, [n], nulls=[n], draws=40).figures[n]
    assert figure.null.nearer == pytest.approx((off[1:] > off[0]).mean())
    assert (off[1:] > off[0]).mean() > 0


def test_no_share_is_told_of_nothing() -> None:
    assert not is_clearly_different(np.array([0.1, -0.1, 0.1, -0.1]), np.zeros(4))
    assert is_clearly_different(np.array([1.0, 1.1, 0.9, 1.0]), np.zeros(4))
    found = estimate_faithfulness(np.full(30, 0.5), np.zeros(30), np.linspace(0.9, 1.1, 30))
    assert found.value == pytest.approx(0.5) and found.n == 30
    assert found.low and found.high and found.low < 0.5 < found.high


def test_random_sets_match_dictionary_and_slot() -> None:
    table = NodeTable(
        ("a", "b"),
        torch.arange(60) % 2,
        torch.arange(60) // 2 % 3,
        torch.arange(60) - 1,
        torch.linspace(5, 1, 60),
        torch.ones(60),
        torch.arange(60) != 7,
    )
    chosen = torch.arange(10)
    drawn = table.random_sets(chosen, 40, 0)
    assert (drawn.sum(1) == 10).all() and not drawn[:, 7].any()
    for k in range(2):
        for slot in range(3):
            cell = (table.which == k) & (table.slot == slot)
            assert (drawn[:, cell].sum(1) == cell[chosen].sum()).all()
    assert len({tuple(one.tolist()) for one in drawn}) > 30
    assert torch.equal(drawn, table.random_sets(chosen, 40, 0))


def test_sizes_are_even_in_their_logarithm() -> None:
    assert log_spaced_sizes(0) == [] and log_spaced_sizes(1) == [1]
    assert (
        log_spaced_sizes(1000)[0] == 1
        and log_spaced_sizes(1000)[-1] == 1000
        and len(log_spaced_sizes(1000)) <= 15
    )


def test_a_stored_circuit_finds_its_prompts_again(engine) -> None:  # noqa: F811
    some = lay_out_circuit_prompts(
        engine, CASES[:3], "ends", targets=[" park", " ball"], against=[" tree"]
    )
    circuit = find_sparse_feature_circuit(
        engine, some, settings=SparseFeatureSettings("pair", nodes=10, draws=0)
    )
    found = restore_circuit_prompts(
        engine, Circuit.from_json(json.loads(json.dumps(circuit.to_json())))
    )
    assert torch.equal(found.slot, some.slot)
    assert [list(ids) for ids in found.batch.target.answers] == list(some.batch.target.answers)
    assert circuit.target.startswith("log of summed probabilities")
    with pytest.raises(InputError, match="next tokens that were found by Saefari"):
        restore_circuit_prompts(engine, Circuit("trace", "m", (), "t", (), ()))


def record() -> Circuit:
    node = CircuitNode("a/3@1", "feature", 0, 1, "a", 3, -0.5, 2.0)
    goal = CircuitNode("logit/target@*", "logit", 2, label="<b>")
    share_ = Estimate(0.5, 0.4, 0.6, 9)
    null = NullFaithfulness(0.1, 0.0, 0.3, 0.25, 200, 0.99)
    figure = Faithfulness(0.5, null, 1, "count", 0.4, 0.6, 9)
    return Circuit(
        "sparse-features",
        "m",
        (CircuitPrompt("a b", ("a", " b"), (1, 2), " c"),),
        "t",
        (node, goal),
        (CircuitEdge(node.id, goal.id, -0.5),),
        "zero",
        ("a",),
        ("a", " b"),
        faithfulness=figure,
        curves=(FaithfulnessPoint(1, "count", share_),),
        error_share={"a": 0.1},
        notes=("cut",),
    )


def test_a_record_is_what_it_was() -> None:
    plain = json.loads(json.dumps(record().to_json(), allow_nan=False))
    assert Circuit.from_json(plain) == record()
    assert record().node("a/3@1").feature == 3
    with pytest.raises(InputError, match="no node"):
        record().node("b")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 9}, "format 9"),
        ({"more": 1}, "Unknown field 'more' in a circuit"),
        ({"nodes": {}}, "must be a list"),
        ({"nodes": [{"id": "x", "kind": "thing", "layer": 0}], "edges": []}, "'thing'"),
        ({"nodes": [{"id": "x"}], "edges": []}, "missing"),
        ({"edges": [{"source": "a/3@1", "target": "b", "weight": 1}]}, "'b'"),
        ({"edges": [{"source": "a/3@1", "target": "a/3@1", "weight": "x"}]}, "not a number"),
    ],
)
def test_a_broken_record_is_refused(change: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Circuit.from_json(record().to_json() | change)


@pytest.mark.parametrize("task", TASK_CORRUPTIONS)
def test_twins_differ_where_the_answer_is_decided(task: str) -> None:
    """The same template and lead; marks stand on what they name; other words somewhere."""
    for pair in sample_prompt_pairs(task, "held_out", 10, 1):
        lead = next(mark for mark in pair.marks if mark.name == "lead")
        assert pair.clean[: lead.stop] == pair.corrupt[: lead.stop]
        assert pair.clean != pair.corrupt and "\ue000" not in pair.clean + pair.corrupt
        assert all(pair.clean[mark.start : mark.stop].strip() for mark in pair.marks)
        assert pair.answer != pair.wrong
    assert list(sample_prompt_pairs(task, "train", 3, 5)) == list(
        sample_prompt_pairs(task, "train", 3, 5)
    )
