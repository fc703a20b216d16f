"""One model, two roads, one lock: laws that every architecture must keep."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, RwkvConfig

from backend.model.device import choose_placement
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from tests.models import N_CTX, configs, save, shared, tiny, token_batch, tokenizer

HOOKS = [
    "blocks.1.hook_resid_pre",
    "blocks.2.hook_resid_post",
    "blocks.0.hook_mlp_out",
    "blocks.1.hook_attn_out",
    "blocks.1.attn.hook_z",
    "blocks.2.ln2.hook_normalized",
    "blocks.1.ln1.hook_normalized",
    "blocks.1.mlp.hook_post",
]


@pytest.fixture(scope="module", params=list(configs()))
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return shared(request.param)


def from_bridge(lm: LanguageModel, tokens: torch.Tensor, hook: str) -> torch.Tensor:
    with lm.hold_bridge() as bridge, torch.no_grad():
        return bridge.run_with_cache(tokens)[1][lm.canonical(hook)].flatten(2)


@pytest.mark.parametrize("hook", HOOKS)
def test_fast_road_gives_what_the_bridge_gives(lm: LanguageModel, hook: str) -> None:
    tokens = token_batch(3, 12)
    got = lm.activations(tokens, [hook])[hook]
    assert lm.has_fast_forward(hook)
    torch.testing.assert_close(got, from_bridge(lm, tokens, hook), rtol=1e-4, atol=1e-4)
    assert got.shape == (3, 12, lm.width(hook))


def test_hooks_beyond_the_fast_road_still_work(lm: LanguageModel) -> None:
    hooks = ["blocks.1.ln1.hook_scale", "blocks.1.hook_resid_pre"]
    tokens = token_batch(2, 9)
    got = lm.activations(tokens, hooks)
    assert not lm.has_fast_forward(hooks[0])
    for hook in hooks:
        torch.testing.assert_close(got[hook], from_bridge(lm, tokens, hook), rtol=1e-4, atol=1e-4)


def test_a_road_that_differs_is_not_taken() -> None:
    """The probe, not the name, decides: a tap on the wrong module is thrown out."""
    crooked = tiny("llama")
    layers = crooked.bare.get_submodule("model.layers")
    layers[0], layers[1] = layers[1], layers[0]
    assert not crooked.has_fast_forward("blocks.2.hook_resid_post")
    assert crooked.has_fast_forward("embed.hook_out")


def test_neither_batch_nor_padding_matters(lm: LanguageModel) -> None:
    tokens = token_batch(3, 12)
    padded = torch.cat([tokens[:, :7], torch.full((3, 5), 2)], dim=1)
    whole = lm.activations(padded, HOOKS)
    alone = lm.activations(tokens[1:2, :7], HOOKS)
    for hook in HOOKS:
        torch.testing.assert_close(whole[hook][1:2, :7], alone[hook], rtol=1e-4, atol=1e-4)


def test_forward_stops_after_the_deepest_hook(lm: LanguageModel) -> None:
    ran: list[str] = []
    tap = lm.bare.get_output_embeddings().register_forward_hook(lambda *_: ran.append("head"))
    lm.activations(token_batch(1, 4), ["blocks.1.hook_resid_pre", "blocks.2.hook_resid_post"])
    tap.remove()
    assert not ran


def test_losses_are_the_models_own(lm: LanguageModel) -> None:
    tokens = token_batch(2, 10)
    with torch.no_grad():
        want = lm.bare(tokens, labels=tokens).loss
    torch.testing.assert_close(lm.token_losses(tokens).mean(), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hook", HOOKS)
def test_putting_back_the_same_changes_nothing(lm: LanguageModel, hook: str) -> None:
    tokens = token_batch(2, 10)
    got = lm.token_losses(tokens, {hook: lambda h: h.clone()})
    torch.testing.assert_close(got, lm.token_losses(tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hook", HOOKS)
def test_edits_do_on_either_road_what_the_bridge_does(lm: LanguageModel, hook: str) -> None:
    tokens = token_batch(2, 10)
    shift = torch.randn(lm.width(hook))
    with (
        torch.no_grad(),
        lm.hold_bridge([(hook, lambda h, hook: h + shift.view(h.shape[2:]))]) as bridge,
    ):
        logits = bridge(tokens)[:, :-1].flatten(0, 1)
    want = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="none")
    got = lm.token_losses(tokens, {hook: lambda h: h + shift})
    torch.testing.assert_close(got.flatten(), want, rtol=1e-4, atol=1e-4)


def test_replacing_the_last_stream_by_another_text_gives_its_losses(lm: LanguageModel) -> None:
    a, b = token_batch(2, 10), token_batch(2, 10, seed=1)
    last = "blocks.2.hook_resid_post"
    other = lm.activations(b, [last])[last]
    mixed = lm.token_losses(torch.cat([b[:, :1], a[:, 1:]], 1), {last: lambda h: other})
    logits = lm.bare(b).logits[:, :-1].flatten(0, 1)
    want = torch.nn.functional.cross_entropy(logits, a[:, 1:].flatten(), reduction="none")
    torch.testing.assert_close(mixed.flatten(), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_an_edit_at_resid_mid_stays_in_the_stream(architecture: str) -> None:
    """In the bridge the point is only what the MLP reads; the stream must change with it."""
    lm = shared(architecture)
    shift = torch.randn(lm.d_model)
    seen: dict[str, torch.Tensor] = {}

    def watch(key: str):
        return lambda h: seen.__setitem__(key, h.clone()) or h

    edits = {
        "blocks.1.hook_resid_mid": lambda h: seen.setdefault("mid", h.clone()) + shift,
        "blocks.1.hook_mlp_out": watch("mlp"),
        "blocks.1.hook_resid_post": watch("post"),
    }
    lm.token_losses(token_batch(1, 6), edits)
    torch.testing.assert_close(seen["post"], seen["mid"] + shift + seen["mlp"])


def by_losses(lm: LanguageModel, scale: float) -> torch.Tensor:
    return lm.token_losses(token_batch(1, 8), {"blocks.1.hook_resid_post": lambda h: h * scale})


def by_turn(lm: LanguageModel, scale: float) -> torch.Tensor:
    hooks = [("blocks.1.hook_resid_post", lambda h, hook: h * scale)]
    with lm.hold_bridge(hooks) as bridge, torch.no_grad():
        return bridge(token_batch(1, 8))


@pytest.mark.parametrize("ask", [by_losses, by_turn])
def test_two_threads_never_see_each_others_edits(
    tiny_lm: LanguageModel, ask: Callable[[LanguageModel, float], torch.Tensor]
) -> None:
    scales = [0.0, 3.0]
    want = [ask(tiny_lm, scale) for scale in scales]
    wrong: list[int] = []

    def visit(who: int) -> None:
        wrong.extend(
            who for _ in range(15) if not torch.equal(ask(tiny_lm, scales[who]), want[who])
        )

    threads = [threading.Thread(target=visit, args=(who,)) for who in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not torch.equal(ask(tiny_lm, 1.0), want[0])  # and none is left behind


def test_a_turn_takes_its_hooks_away_after_an_error(tiny_lm: LanguageModel) -> None:
    tokens = token_batch(1, 8)
    before = tiny_lm.token_losses(tokens)
    double = [("blocks.0.hook_out", lambda h, hook: h * 2)]
    with pytest.raises(RuntimeError, match="stop"), tiny_lm.hold_bridge(double):
        raise RuntimeError("stop")
    assert torch.equal(tiny_lm.token_losses(tokens), before)


def test_an_unknown_hook_names_near_misses(tiny_lm: LanguageModel) -> None:
    with pytest.raises(InputError) as bad:
        tiny_lm.activations(token_batch(1, 4), ["blocks.1.hook_resid_past"])
    assert str(bad.value) == (
        "tiny-llama has no hook point 'blocks.1.hook_resid_past'. "
        "Did you mean 'blocks.1.hook_resid_post'? It has 3 layers, and in blocks.1: "
        "blocks.1.hook_resid_pre, blocks.1.hook_resid_mid, blocks.1.hook_resid_post, "
        "blocks.1.hook_attn_out, blocks.1.hook_mlp_out, blocks.1.attn.hook_z, "
        "blocks.1.ln1.hook_normalized, blocks.1.ln2.hook_normalized."
    )
    with (
        pytest.raises(InputError, match="no hook point 'blocks.9.hook_out'"),
        tiny_lm.hold_bridge([("blocks.9.hook_out", lambda h, hook: None)]),
    ):
        pass


def test_a_hook_without_vectors_per_token_is_refused(tiny_lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="does not carry one vector per token"):
        tiny_lm.width("blocks.0.attn.hook_pattern")


def test_sequences_beyond_the_context_are_refused(tiny_lm: LanguageModel) -> None:
    with pytest.raises(InputError, match=f"at most {N_CTX} tokens"):
        tiny_lm.activations(token_batch(1, N_CTX + 1), HOOKS[:1])


def test_a_folder_loads_as_the_model_it_holds(tmp_path: Path) -> None:
    folder = save(tmp_path / "mine", "gpt2")
    lm = LanguageModel.load(str(folder), choose_placement("cpu"))
    assert (lm.name, lm.source, lm.bos, len(lm.model_hash)) == ("mine", "mine", 0, 64)
    tokens, hook = token_batch(1, 5), "blocks.2.hook_resid_post"
    want = shared("gpt2").activations(tokens, [hook])[hook]
    torch.testing.assert_close(lm.activations(tokens, [hook])[hook], want)


def test_the_hash_is_of_the_weights(tmp_path: Path) -> None:
    place = choose_placement("cpu")
    a, b, c = (save(tmp_path / n, "gpt2", seed) for n, seed in [("a", 0), ("b", 0), ("c", 1)])
    hashes = [LanguageModel.load(str(folder), place).model_hash for folder in (a, b, c)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert tiny("gpt2").model_hash == tiny("gpt2").model_hash != tiny("gpt2", 1).model_hash


def test_an_architecture_without_a_bridge_is_refused() -> None:
    config = RwkvConfig(vocab_size=60, hidden_size=8, num_hidden_layers=2)
    network = AutoModelForCausalLM.from_config(config)
    with pytest.raises(InputError) as bad:
        LanguageModel.wrap(network, tokenizer(), "x", choose_placement("cpu"))
    assert str(bad.value) == (
        "TransformerLens does not support the model 'x' of type 'rwkv': "
        "Could not determine supported architecture from config."
    )


def test_next_logits_are_the_last_of_all(lm: LanguageModel) -> None:
    tokens = token_batch(2, 9)
    torch.testing.assert_close(lm.next_logits(tokens), lm.logits(tokens)[:, -1])
