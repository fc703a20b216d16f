"""Connections in the weights against dense products, and paths that make up a direct effect."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backend.circuits import weight_connections
from backend.circuits.attribution_graph import build_attribution_graph
from backend.circuits.logit_targets import build_logit_target
from backend.circuits.patch_free_tracing import FeatureStart, LogitStart
from backend.circuits.records import Circuit
from backend.circuits.weight_connections import (
    AttentionHead,
    encoder_rows_in_stream,
    find_de_embedding_tokens,
    find_weight_connections,
    read_head_weights,
    read_token_embeddings,
)
from backend.circuits.weight_paths import find_greedy_paths
from backend.circuits.weight_paths_circuit import build_weight_paths_circuit
from backend.engine_protocol import TokenizedText
from feature_store.errors import InputError
from feature_store.records import FeatureId
from tests.dictionaries import loaded
from tests.models import shared, token_batch
from tests.test_circuits_graph import transcoder


@pytest.fixture(scope="module")
def transcoders(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("weights")
    return [transcoder(folder, layer) for layer in range(3)]


def short(seed: int = 0) -> TokenizedText:
    return TokenizedText(token_batch(1, 4, seed)[0].tolist(), [False, True, True, True])


@pytest.mark.parametrize("through", [None, AttentionHead(1, 2)])
def test_the_strongest_connections_are_those_of_the_whole_matrix(
    tiny_lm, transcoders, through, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = transcoders[0], transcoders[2]
    rows = source.W_dec
    if through is not None:
        W_V, W_O = read_head_weights(tiny_lm, 1)
        rows = rows @ W_V[2] @ W_O[2]
    whole = rows @ target.W_enc
    monkeypatch.setattr(weight_connections, "FEATURE_BLOCK", 7)
    found = find_weight_connections(tiny_lm, source, target, k=9, through=through)
    top = whole.abs().flatten().topk(9).values
    torch.testing.assert_close(found.value.abs(), top, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole[found.source, found.target], found.value)
    one = find_weight_connections(tiny_lm, source, target, k=3, features=[5], through=through)
    torch.testing.assert_close(one.value.abs(), whole[:, 5].abs().topk(3).values)
    assert set(one.target.tolist()) == {5}


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_embeddings_are_what_enters_the_stream(architecture: str) -> None:
    lm = shared(architecture)
    tokens = token_batch(1, 6)
    entered = lm.activations(tokens, ["embed.hook_out"])["embed.hook_out"][0]
    torch.testing.assert_close(read_token_embeddings(lm)[tokens[0]], entered, rtol=1e-4, atol=1e-5)


def test_a_de_embedding_ranks_tokens(tiny_lm, transcoders) -> None:
    values = (
        read_token_embeddings(tiny_lm)
        @ encoder_rows_in_stream(tiny_lm, transcoders[0], torch.tensor([3]))[0]
    )
    found = find_de_embedding_tokens(tiny_lm, transcoders[0], 3, k=4)
    assert found.up.tolist() == values.argsort(descending=True)[:4].tolist()
    assert float(found.down_value[0]) == pytest.approx(float(values.min()))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "neox"])
def test_all_paths_from_a_feature_make_up_its_direct_effect(architecture: str, transcoders) -> None:
    """Straight, and through every chain of heads: the sum is the attribution graph's edge."""
    lm, text = shared(architecture), TokenizedText(short().token_ids[:3], [False, True, True])
    graph = build_attribution_graph(
        lm, transcoders, text, lambda logits: build_logit_target(lm, logits, [7])
    )
    everything = {"steps": 10**6, "beam": 10**6, "through_features": False}
    paths = find_greedy_paths(lm, transcoders, text, LogitStart((7,)), **everything)
    summed: dict[str, float] = {}
    for path in paths:
        if path.nodes[0].kind != "head":
            id = path.nodes[0].id
            summed[id] = summed.get(id, 0.0) + path.value
    row = graph.effects[-1]
    largest = float(abs(row).max())
    checked = 0
    for effect, where in zip(row.tolist(), graph.sources, strict=False):
        site = graph.replacement.sites[where.site]
        if where.feature is not None and abs(effect) > 1e-3 * largest:
            found = summed[f"{site.name}/{where.feature}@{where.position}"]
            assert found == pytest.approx(effect, rel=1e-3, abs=1e-4 * largest)
            checked += 1
        if site.is_tokens:
            found = summed[f"token@{where.position}"]
            assert found == pytest.approx(effect, rel=1e-3, abs=1e-4 * largest)
    assert checked >= 10


def test_a_circuit_of_paths(tiny_lm, transcoders) -> None:
    d = transcoders[2]
    text = short()
    x = tiny_lm.activations(torch.tensor([text.token_ids]), [d.hook_name])[d.hook_name]
    feature = int(d.encode_sparse(x[0, 3:4]).feature[0])
    start = FeatureStart(FeatureId(d.name, feature), 3)
    circuit = build_weight_paths_circuit(tiny_lm, transcoders, text, start)
    assert Circuit.from_json(circuit.to_json()) == circuit
    values = [abs(path["value"]) for path in circuit.facts["paths"]]
    assert values == sorted(values, reverse=True)
    assert len(circuit.facts["de_embedding"]["up"]) == 10
    assert circuit.nodes[-1].id == f"{d.name}/{feature}@3"


def test_what_does_not_connect(tiny_lm, transcoders, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Name the earlier dictionary first"):
        find_weight_connections(tiny_lm, transcoders[2], transcoders[0])
    with pytest.raises(InputError, match="Head 0.1 is not between"):
        find_weight_connections(
            tiny_lm, transcoders[0], transcoders[1], through=AttentionHead(0, 1)
        )
    with pytest.raises(InputError, match="has no head 1.7"):
        find_weight_connections(
            tiny_lm, transcoders[0], transcoders[1], through=AttentionHead(1, 7)
        )
    heads = loaded(tmp_path / "z", "topk", d_in=16, metadata={"hook_name": "blocks.2.attn.hook_z"})
    with pytest.raises(
        InputError, match="reads neither the residual stream nor the output of one norm"
    ):
        find_weight_connections(tiny_lm, transcoders[0], replace(heads, name="z"))


def test_attention_is_walked_head_by_head(tiny_lm, transcoders, tmp_path: Path) -> None:
    heads = loaded(tmp_path / "z", "topk", d_in=16, metadata={"hook_name": "blocks.2.attn.hook_z"})
    with pytest.raises(InputError, match="paths go through attention heads"):
        find_greedy_paths(tiny_lm, [heads], short(), LogitStart((7,)))
    circuit = build_weight_paths_circuit(tiny_lm, [heads, *transcoders], short(), LogitStart((7,)))
    assert any("not transcoders" in note for note in circuit.notes)
    with pytest.raises(InputError, match="none of the dictionaries is one"):
        build_weight_paths_circuit(tiny_lm, [heads], short(), LogitStart((7,)))


def test_a_model_whose_weights_do_not_tell(transcoders) -> None:
    with pytest.raises(InputError, match="have no separate weights"):
        find_greedy_paths(shared("gemma2"), transcoders, short(), LogitStart((7,)))
