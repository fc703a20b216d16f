"""Attribution graphs: exact sums, edges that interventions keep, and an edge worked by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backend.circuits.attribution_graph import build_attribution_graph
from backend.circuits.attribution_graph_circuit import (
    convert_graph_to_circuit,
    find_attribution_circuit,
)
from backend.circuits.logit_targets import build_logit_target, select_likeliest_logits
from backend.circuits.records import Circuit
from backend.circuits.replacement_model import ReplacementModel
from backend.engine_protocol import TokenizedText
from backend.interventions.edit_plan import compile_edits
from backend.interventions.edited_logits import compute_edited_logits
from backend.interventions.records import Edit, EditCondition, FrozenLayers
from feature_store.errors import InputError
from feature_store.records import FeatureId
from tests.dictionaries import loaded
from tests.models import shared, tiny, token_batch

ARCHITECTURES = ["llama", "gpt2", "neox", "gemma2", "qwen2"]
N = 6


def transcoder(folder: Path, layer: int, architecture: str = "transcoder", at="hook_normalized"):
    places = {
        "hook_name": f"blocks.{layer}.ln2.{at}",
        "hook_name_out": f"blocks.{layer}.hook_mlp_out",
    }
    found = loaded(folder / f"t{layer}", architecture, layer, d_in=16, d_out=16, metadata=places)
    return replace(found, name=f"t{layer}")


def prompt(seed: int = 0) -> TokenizedText:
    ids = token_batch(1, N, seed)[0].tolist()
    return TokenizedText(ids, [False, *[True] * (N - 1)])


@pytest.fixture(scope="module")
def transcoders(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("transcoders")
    return [transcoder(folder, layer) for layer in range(3)]


def graph_of(lm, dictionaries, **options):
    return build_attribution_graph(
        lm, dictionaries, prompt(), lambda logits: select_likeliest_logits(lm, logits), **options
    )


def without_sources(held: ReplacementModel, numbers) -> torch.Tensor:
    """The numbers when every feature, error term and token is gone: run, not summed."""
    gone = {}
    for i, site in enumerate(held.sites):
        kept = (
            0
            if site.activations is None
            else held.counted[..., None] * site.activations._decode_without_features()
        )
        gone[i] = kept - site.h
    with torch.no_grad():
        held._forward(1, gone)
    return held.values(numbers)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_effects_and_bias_make_up_the_target(architecture: str, tmp_path: Path) -> None:
    """With every source at zero the model held still gives the target less the sum of effects."""
    lm = shared(architecture)
    ds = [transcoder(tmp_path, 0), transcoder(tmp_path, 2, "skip_transcoder")]
    graph = graph_of(lm, ds)
    held = graph.replacement
    numbers = [aim.linear_readout(lm, N - 1) for aim in graph.logit_targets]
    summed = torch.from_numpy(graph.effects[graph.kinds.logit].sum(1))
    bias = held.values(numbers) - summed
    torch.testing.assert_close(bias, without_sources(held, numbers), rtol=1e-3, atol=1e-3)


def test_values_are_the_models_own(tiny_lm, transcoders) -> None:
    graph = graph_of(tiny_lm, transcoders)
    logits = tiny_lm.logits(torch.tensor([prompt().token_ids]))[0, -1]
    centred = (logits - logits.mean())[[aim.name for aim in graph.logit_targets]]
    found = torch.tensor(graph.values[graph.kinds.logit], dtype=torch.float32)
    torch.testing.assert_close(found, centred, rtol=1e-4, atol=1e-4)
    for place, value in zip(graph.sources, graph.values, strict=False):
        if place.feature is not None:
            assert value == pytest.approx(place.value, rel=1e-3, abs=1e-4)


def test_an_edge_is_its_intervention(tiny_lm, transcoders) -> None:
    """Ablated with patterns, norms and later MLPs frozen, the logit falls by the edge."""
    graph = graph_of(tiny_lm, transcoders)
    by_name = {one.name: one for one in transcoders}
    logit = int(graph.kinds.logit.nonzero()[0][0])
    tokens, checked = prompt().token_ids, 0
    largest = float(abs(graph.effects[logit]).max())
    for column, place in enumerate(graph.sources):
        edge = float(graph.effects[logit, column])
        if place.feature is None or abs(edge) < 0.02 * largest:
            continue
        site = graph.replacement.sites[place.site]
        feature = FeatureId(site.name, place.feature)
        edit = Edit("clamp", (feature,), 0.0, where=EditCondition(positions=(place.position,)))
        later = (site.layer + 1, 2) if site.layer < 2 else None
        freeze = FrozenLayers(patterns=(0, 2), norms=(0, 2), mlps=later)
        plan = compile_edits(tiny_lm, by_name, [[edit]], freeze=freeze)
        seen = compute_edited_logits(plan, [tokens])
        rows = torch.stack([seen.logits[0, -1], seen.clean[0, -1]])
        change = (rows - rows.mean(-1, keepdim=True))[:, graph.logit_targets[0].name]
        assert float(change[1] - change[0]) == pytest.approx(edge, rel=0.01, abs=1e-4 * largest)
        checked += 1
    assert checked >= 5


def test_an_edge_between_features_is_its_intervention(tiny_lm, tmp_path: Path) -> None:
    """The same for what a feature sends to features above it, where none is switched off.

    They read behind the norm's gain, where interventions hold the norm still.
    """
    transcoders = [transcoder(tmp_path, layer, at="hook_out") for layer in range(3)]
    graph = graph_of(tiny_lm, transcoders)
    by_name = {one.name: one for one in transcoders}
    sources = [
        i
        for i, p in enumerate(graph.sources)
        if p.feature is not None and graph.replacement.sites[p.site].layer == 0
    ][:4]
    targets = [
        i
        for i, p in enumerate(graph.sources)
        if p.feature is not None and graph.replacement.sites[p.site].layer == 1
    ]
    checked = 0
    for column in sources:
        place = graph.sources[column]
        feature = FeatureId("t0", place.feature)
        edit = Edit("clamp", (feature,), 0.0, where=EditCondition(positions=(place.position,)))
        watch = [FeatureId("t1", graph.sources[i].feature) for i in targets][:8]
        freeze = FrozenLayers(patterns=(0, 2), norms=(0, 2), mlps=(1, 2))
        plan = compile_edits(tiny_lm, by_name, [[edit]], freeze=freeze, watch=watch)
        seen = compute_edited_logits(plan, [prompt().token_ids]).watched[0]
        for k, row in enumerate(targets[:8]):
            target, edge = graph.sources[row], float(graph.effects[row, column])
            after = float(seen[target.position, k])
            if abs(edge) > 0.01 and target.value - edge > 0:
                assert target.value - after == pytest.approx(edge, rel=0.01, abs=1e-4)
                checked += 1
    assert checked >= 3


def test_an_edge_by_hand(tmp_path: Path) -> None:
    """Without attention an edge is activation x decoder row / length of the stream x encoder."""
    lm = tiny("llama", seed=3)
    for layer in range(3):
        lm.component(f"blocks.{layer}.attn.o").original_component.weight.data.zero_()
    below, above = transcoder(tmp_path, 0), transcoder(tmp_path, 1)
    graph = graph_of(lm, [below, above])
    layer = [graph.replacement.sites[place.site].layer for place in graph.sources]
    column = next(i for i, p in enumerate(graph.sources) if p.feature is not None and layer[i] == 0)
    place = graph.sources[column]
    row = next(
        i
        for i, p in enumerate(graph.sources)
        if p.feature is not None and layer[i] == 1 and p.position == place.position
    )
    tokens = torch.tensor([prompt().token_ids])
    h = lm.activations(tokens, ["blocks.1.ln2.hook_in"])["blocks.1.ln2.hook_in"]
    length = (h[0, place.position].pow(2).mean() + 1e-6).sqrt()
    dot = below.W_dec[place.feature] @ above.W_enc[:, graph.sources[row].feature]
    assert graph.effects[row, column] == pytest.approx(float(place.value * dot / length), rel=1e-3)


def test_a_budget_keeps_the_most_influential(tiny_lm, transcoders) -> None:
    whole, part = graph_of(tiny_lm, transcoders), graph_of(tiny_lm, transcoders, budget=20)
    assert part.n_traced == 20 and part.n_active == whole.n_active
    assert 0 < part.untraced_share < 1 and whole.untraced_share == pytest.approx(0, abs=1e-9)
    small = graph_of(tiny_lm, transcoders, memory=4 * len(whole.sources) * 25)
    assert small.n_traced < 25


def test_a_circuit_says_what_it_does_not_cover(tiny_lm, transcoders) -> None:
    circuit = find_attribution_circuit(
        tiny_lm, transcoders[::2], prompt(), answers=[7], against=[9]
    )
    assert any("Without a transcoder: layer 1." in note for note in circuit.notes)
    assert Circuit.from_json(circuit.to_json()) == circuit
    kinds = {node.kind for node in circuit.nodes}
    assert kinds == {"feature", "error", "token", "logit"}
    assert 0 < circuit.facts["replacement_score"] < 1


def test_a_difference_is_the_difference_of_two_logits(tiny_lm) -> None:
    logits = tiny_lm.logits(torch.tensor([prompt().token_ids]))[0, -1]
    one, other, both = (
        build_logit_target(tiny_lm, logits, *given)[0].direction
        for given in (([7],), ([9],), ([7], [9]))
    )
    torch.testing.assert_close(one - other, both)


def test_dictionaries_that_write_at_one_place_are_refused(tiny_lm, transcoders) -> None:
    tokens, counted = torch.tensor([prompt().token_ids]), torch.ones(1, N, dtype=torch.bool)
    twice = [transcoders[0], replace(transcoders[0], name="other")]
    with pytest.raises(InputError, match="t0 and other both write"):
        ReplacementModel(tiny_lm, tokens, counted, twice)


def test_without_a_transcoder_there_is_no_graph(tiny_lm, tmp_path: Path) -> None:
    sae = loaded(tmp_path / "sae", "topk", d_in=16)
    with pytest.raises(InputError, match="none of the dictionaries is one"):
        find_attribution_circuit(tiny_lm, [sae], prompt())


def test_pruning_less_shows_more(tiny_lm, transcoders) -> None:
    graph = graph_of(tiny_lm, transcoders)
    few, many = (convert_graph_to_circuit(graph, prompt(), share, 0.9) for share in (0.3, 0.9))
    assert {node.id for node in few.nodes} < {node.id for node in many.nodes}
