"""Effects and edges: worked out by hand on a linear model, and their laws on a bent one."""

import numpy as np
import pytest
import torch

from backend.ablation.ablation_requests import PromptCase
from backend.attribution.hook_gradients import compute_hook_gradients
from backend.circuits.circuit_prompts import lay_out_circuit_prompts, sample_task_prompts
from backend.circuits.edge_stability import bootstrap_edge_stability
from backend.circuits.edge_weights import compute_edge_weights
from backend.circuits.node_and_edge_checks import check_edges, check_nodes
from backend.circuits.node_baselines import NodeBaselines
from backend.circuits.node_effects import estimate_node_effects
from backend.circuits.node_table import NodeTable
from backend.circuits.records import Circuit, error_id, feature_id
from backend.circuits.single_node_ablation import ablate_single_nodes, build_ablation_changes
from backend.circuits.sparse_feature_circuit import (
    SparseFeatureSettings,
    find_sparse_feature_circuit,
)
from backend.dictionaries import load
from backend.engine import LocalEngine
from backend.model.device import Placement
from backend.model.language_model import FAST_FORWARD_TOLERANCE, LanguageModel
from feature_store.errors import InputError
from tests.dictionaries import CPU, EXACT, saved
from tests.linear_models import MLP, R0, R1, LinearLm, directions, prompts
from tests.models import hf_model, tokenizer

TEXTS = [
    ("the big dog went to the", "park", "house", "the big cat went to the"),
    ("a small boy saw the red", "ball", "book", "a small girl saw the red"),
    ("mum took the old bread and", "ate", "ran", "dad took the old bread and"),
    ("the happy girl found one new", "box", "tree", "the sad girl found one new"),
    ("dad gave a book to the", "boy", "cat", "mum gave a book to the"),
    ("the bird and the fish liked", "his", "her", "the bird and the cat liked"),
]
CASES = [PromptCase(text, f" {answer}", f" {wrong}", pair) for text, answer, wrong, pair in TEXTS]


def engine_of(folder, placement: Placement = CPU, norm: str = "none") -> LocalEngine:
    """A random three-layer model with a dictionary of each kind, and no MLP free between them."""
    network = hf_model("llama")
    torch.nn.Module.to(network, dtype=placement.dtype)
    lm = LanguageModel.wrap(network, tokenizer(), "tiny", placement)
    kinds = {
        "attn": ("standard", "blocks.2.attn.hook_z", {}),
        "mlp": (
            "jumprelu_transcoder",
            "blocks.2.ln2.hook_normalized",
            {"d_out": 16, "hook_name_out": "blocks.2.hook_mlp_out"},
        ),
        "resid": ("topk", "blocks.1.hook_resid_post", {"normalize_activations": norm}),
    }
    found = {}
    for name, (kind, hook, extra) in kinds.items():
        metadata = {"hook_name": hook}
        if "hook_name_out" in extra:
            metadata["hook_name_out"] = extra.pop("hook_name_out")
        path = saved(folder / name, kind, d_in=16, metadata=metadata, **extra)
        found[name] = load(str(path), name=name, placement=placement, width=lm.width)
    return LocalEngine(lm, found, bos=0)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> LocalEngine:
    return engine_of(tmp_path_factory.mktemp("circuits"))


@pytest.mark.parametrize("method", ["gradient", "integrated"])
def test_effects_are_those_worked_out_by_hand(method: str) -> None:
    """r0 reaches the logits by itself and through M at its own token, through V at the next."""
    lm, d, some = LinearLm(), directions("a", R0), prompts()
    (found,) = estimate_node_effects(lm, NodeBaselines(lm, [d], "zero", some), some, method)  # pyright: ignore
    w = lm.U[:, 1] - lm.U[:, 2]
    assert d.W_enc is not None
    r0 = lm.E[some.batch.prompts.tokens]
    ways = {3: w + lm.M @ w, 2: lm.V @ w, 1: torch.zeros_like(w)}
    for slot, way in ways.items():
        f = r0[:, slot] @ d.W_enc
        missed = r0[:, slot] - f @ d.coder.W_dec
        wanted = torch.cat([-(missed @ way).mean()[None], -(f * (d.coder.W_dec @ way)).mean(0)])
        assert torch.allclose(found.effect[found.slot == slot].float(), wanted, atol=1e-5)


def test_edges_are_those_worked_out_by_hand() -> None:
    """Through a transcoder and beside it: a path that passes another dictionary is not direct."""
    lm, some = LinearLm(), prompts()
    low, mlp, high = directions("a", R0), directions("t", R0, MLP, seed=1), directions("b", R1)
    assert low.W_enc is not None and mlp.W_enc is not None
    baselines = NodeBaselines(lm, [low, mlp, high], "zero", some)  # pyright: ignore
    table = NodeTable.from_effects(estimate_node_effects(lm, baselines, some, "gradient"))  # pyright: ignore
    found = compute_edge_weights(lm, baselines, some, table)  # pyright: ignore
    w = lm.U[:, 1] - lm.U[:, 2]
    f = lm.E[some.batch.prompts.tokens] @ low.W_enc  # [row pos i]
    at = {
        (table.names[int(k)], int(s), int(i)): row
        for row, (k, s, i) in enumerate(zip(table.which, table.slot, table.feature, strict=True))
    }

    def edge(u: tuple, v: tuple) -> float:
        return float(found.mean[at[v], at[u]])

    a, t, b = low.coder.W_dec, mlp.coder, high.coder.W_dec
    for i, j in ((0, 0), (1, 3), (4, 2)):
        mine = -f[:, 3, i].mean()
        assert edge(("a", 3, i), ("b", 3, j)) == pytest.approx(
            float((b[j] @ w) * (a[i] @ b[j]) * mine), abs=1e-5
        )
        assert edge(("a", 3, i), ("t", 3, j)) == pytest.approx(
            float((t.W_dec[j] @ w) * (a[i] @ mlp.W_enc[:, j]) * mine), abs=1e-5
        )
        before = -f[:, 2, i].mean()
        assert edge(("a", 2, i), ("b", 3, j)) == pytest.approx(
            float((b[j] @ w) * (a[i] @ lm.V @ b[j]) * before), abs=1e-5
        )
        assert edge(("a", 3, i), ("b", 2, j)) == 0
        last = float(found.mean[len(table), at["b", 3, j]])
        assert last == pytest.approx(float(table.effect[at["b", 3, j]]), abs=1e-5)
    assert not found.mean[len(table), [at["a", 3, i] for i in range(5)]].any()  # r1 is between


@pytest.mark.parametrize("baseline", ["zero", "mean", "resample", "pair"])
def test_attributions_add_up_and_each_is_its_ablation(engine: LocalEngine, baseline: str) -> None:
    """Σ over a path = the measured change (2 %); with few nodes on a path, an attribution is nearly
    its exact ablation."""
    some = lay_out_circuit_prompts(engine, CASES[:5])
    names = list(engine.dictionaries.values())
    baselines = NodeBaselines(engine.lm, names, baseline, some)  # pyright: ignore
    found = estimate_node_effects(engine.lm, baselines, some, "integrated", paths=6)
    assert all(one.gap is not None and one.gap <= 0.02 for one in found)
    table = NodeTable.from_effects(found).select(torch.arange(12))
    measured = ablate_single_nodes(
        engine.lm, baselines, some, table.which, table.slot, table.feature
    )
    assert torch.corrcoef(torch.stack([measured, table.effect]))[0, 1] > 0.8


def test_a_batch_is_its_prompts_one_by_one(engine: LocalEngine) -> None:
    names = list(engine.dictionaries.values())

    def strongest(cases: list[PromptCase]) -> dict[tuple[int, int, int], float]:
        some = lay_out_circuit_prompts(engine, cases, "ends")
        found = NodeTable.from_effects(
            estimate_node_effects(
                engine.lm, NodeBaselines(engine.lm, names, "zero", some), some, "gradient"
            )
        )
        rows = zip(found.which.tolist(), found.slot.tolist(), found.feature.tolist(), strict=True)
        return dict(zip(rows, found.effect.tolist(), strict=True))

    both, alone = strongest(CASES[:2]), [strongest([case]) for case in CASES[:2]]
    for key in {*alone[0], *alone[1]}:
        mean = sum(one.get(key, 0.0) for one in alone) / 2
        assert both[key] == pytest.approx(mean, abs=1e-5)


def test_a_small_step_moves_the_target_as_its_effect_says(tmp_path, monkeypatch) -> None:
    """Central difference in float64; nodes of at least 1 % of the largest effect. This random model
    bends so much that the step is a thousandth, not a hundredth."""
    monkeypatch.setitem(FAST_FORWARD_TOLERANCE, torch.float64, 1e-9)
    engine = engine_of(tmp_path, EXACT)
    some = lay_out_circuit_prompts(engine, CASES[:1])
    names = list(engine.dictionaries.values())
    baselines = NodeBaselines(engine.lm, names, "zero", some)
    table = NodeTable.from_effects(estimate_node_effects(engine.lm, baselines, some, "gradient"))
    tokens, target = some.batch.prompts.tokens, some.batch.target
    sites = baselines.read_dictionaries(some)
    large = (table.effect.abs() >= 0.01 * table.effect.abs().max()).nonzero()[:, 0][:40]
    for row in large.tolist():
        site = sites[int(table.which[row])]
        change = build_ablation_changes(site, [int(table.slot[row])], [int(table.feature[row])])
        hook = site.dictionary.hook_out
        with torch.no_grad():
            ends = [
                float(target(engine.lm.logits(tokens, {hook: lambda h, s=s, c=change: h + s * c})))
                for s in (-0.001, 0.001)
            ]
        assert (ends[1] - ends[0]) / 0.002 == pytest.approx(float(table.effect[row]), rel=0.02)


def test_edges_keep_their_promise(engine: LocalEngine) -> None:
    """Held still, an edge is its intervention within 1 %; nodes are their ablation."""
    some = lay_out_circuit_prompts(engine, CASES[:2], "ends")
    circuit = find_sparse_feature_circuit(
        engine, some, settings=SparseFeatureSettings(nodes=25, draws=0)
    )
    again = Circuit.from_json(circuit.to_json())
    found = check_edges(engine, again)
    errors = found["frozen"]["relative_error"]
    assert errors["n"] >= 5 and errors["largest"] < 0.01
    assert len(found["free"]["pairs"]) == min(200, len(circuit.edges))
    measured = check_nodes(engine, again)
    assert measured["agreement"]["n"] == 25


def test_what_a_circuit_says_of_itself(engine: LocalEngine) -> None:
    circuit = find_sparse_feature_circuit(
        engine, lay_out_circuit_prompts(engine, CASES[:1]), settings=SparseFeatureSettings(draws=0)
    )
    assert {node.kind for node in circuit.nodes} == {"feature", "error", "logit"}
    node = circuit.nodes[0]
    assert node.id in (
        error_id(node.dictionary, node.position),
        feature_id(node.dictionary, node.feature or 0, node.position),
    )
    assert circuit.target == "logit: 'park' - 'house'" or "park" in circuit.target
    assert any("layer 0" in note for note in circuit.notes)
    assert 0 <= min(circuit.error_share.values()) <= max(circuit.error_share.values()) <= 1
    sizes = [abs(node.effect or 0) for node in circuit.nodes[:-1]]
    assert sizes == sorted(sizes, reverse=True)


def test_what_cannot_be_found_is_said(engine: LocalEngine) -> None:
    one = lay_out_circuit_prompts(engine, CASES[:1])
    for settings, said in (
        (SparseFeatureSettings("mean"), "at least 5 prompts"),
        (SparseFeatureSettings(nodes=0), "1 to 2,000"),
    ):
        with pytest.raises(InputError, match=said):
            find_sparse_feature_circuit(engine, one, settings=settings)
    with pytest.raises(InputError, match="nothing"):
        find_sparse_feature_circuit(engine, one, ["nothing"])
    with pytest.raises(InputError, match="equal length"):
        lay_out_circuit_prompts(
            engine, [CASES[0], PromptCase("the dog", " ran", " ate")], "position"
        )
    with pytest.raises(InputError, match=r"6 tokens and its partner|Prompt 1 has"):
        lay_out_circuit_prompts(engine, [PromptCase("the dog", " ran", " ate", "the big dog")])
    with pytest.raises(InputError, match="made for the demo model"):
        sample_task_prompts(engine, "indirect_object", 2)


def test_gradients_are_taken_once_for_all_dictionaries(engine: LocalEngine, monkeypatch) -> None:
    """One forward and one backward, however many dictionaries and features there are."""
    calls = []

    def counted(*given):
        calls.append(1)
        return compute_hook_gradients(*given)

    monkeypatch.setattr("backend.circuits.node_effects.compute_hook_gradients", counted)
    some = lay_out_circuit_prompts(engine, CASES[:1])
    baselines = NodeBaselines(engine.lm, list(engine.dictionaries.values()), "zero", some)
    estimate_node_effects(engine.lm, baselines, some, "gradient")
    assert len(calls) == 1


def test_an_edge_that_half_the_prompts_contradict_holds_in_half_of_the_draws() -> None:
    """By hand: the same everywhere holds always; signs by turns, about half; the weakest edge sets
    the bar, and one of a single prompt is as often in the draw as that prompt."""
    n = 20
    same, turns = np.full(n, 1.0), np.where(np.arange(n) % 2, 1.0, -0.98)
    single = np.zeros(n)
    single[3] = 5.0
    held = bootstrap_edge_stability(np.stack([same, turns, single], 1))
    assert held is not None and held[0] == 1
    assert held[1] == pytest.approx(0.588, abs=0.05)  # ten or more of twenty
    assert held[2] == pytest.approx(1 - (1 - 1 / n) ** n, abs=0.05)
    assert bootstrap_edge_stability(np.ones((4, 3))) is None


def test_a_circuits_edges_say_in_how_many_draws_they_hold(engine: LocalEngine) -> None:
    some = lay_out_circuit_prompts(engine, CASES)
    found = find_sparse_feature_circuit(
        engine, some, settings=SparseFeatureSettings("pair", nodes=8, edges=12, draws=0)
    )
    shares = [edge.stability for edge in found.edges]
    assert all(share is not None and 0 <= share <= 1 for share in shares)
    assert Circuit.from_json(found.to_json()) == found
    one = find_sparse_feature_circuit(
        engine,
        lay_out_circuit_prompts(engine, CASES[:1]),
        settings=SparseFeatureSettings(nodes=8, draws=0),
    )
    assert one.edges and all(edge.stability is None for edge in one.edges)
