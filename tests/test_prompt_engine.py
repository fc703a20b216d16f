"""What the prompt page asks of the model: gradient × activation, the logit lens, cuts, chats."""

import copy

import numpy as np
import pytest
import torch

from backend.attribution.logit_attribution import find_target_token
from backend.engine import LocalEngine
from backend.model.logit_lens_by_layer import compute_logit_lens_rows, unembed_stream
from feature_store.errors import InputError
from tests.harvests import Rig
from tests.models import VOCAB, tiny, token_batch

TEXT = "the cat ran to the park and saw a big dog"
TEMPLATE = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"


@pytest.fixture(scope="module")
def local(rig: Rig) -> LocalEngine:
    return LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)


@pytest.mark.parametrize("name", ["top", "abs", "relu", "seq"])
def test_gradient_times_activation_is_the_slope_of_the_models_answer(
    local: LocalEngine, name: str
) -> None:
    """Against the change of the metric when the feature's part in the stream grows by a little."""
    read, at, target = local.read(TEXT), 8, 17
    got = local.attribute_logit(read, [name], target, at)[name]
    one, lm = local.dictionaries[name], local.lm
    row = int(np.abs(got.value).argmax())
    position, feature = int(got.position[row]), int(got.feature[row])
    value = local.compute_activations(read, [name])[name].by_position(feature)[position]
    ids = torch.tensor([read.token_ids])

    def metric(share: float) -> float:
        def edit(h: torch.Tensor) -> torch.Tensor:
            h = h.clone()
            h[0, position] += share * value * one.W_dec[feature]
            return h

        here = lm.logits(ids, {one.hook_out: edit})[0, at].double()
        return float(here[target] - here.mean())

    slope = (metric(0.01) - metric(-0.01)) / 0.02
    assert got.value[row] == pytest.approx(slope, rel=0.02, abs=1e-3)


def test_attributions_are_in_the_order_of_activations_and_end_at_the_position(
    local: LocalEngine,
) -> None:
    read, names = local.read(TEXT), list(local.dictionaries)
    fired, got = local.compute_activations(read, names), local.attribute_logit(read, names, 9, 5)
    for name in names:
        kept = np.array(read.counted)[fired[name].position]
        assert np.array_equal(fired[name].position[kept], got[name].position)
        assert np.array_equal(fired[name].feature[kept], got[name].feature)
        assert not got[name].value[got[name].position > 5].any()
        assert got[name].value[got[name].position <= 5].any()


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_the_last_row_of_the_lens_is_the_models_prediction(architecture: str) -> None:
    """gemma2 has a soft-cap and norms whose gain is 1 + w."""
    lm, ids = tiny(architecture), token_batch(1, 9)[0]
    if architecture == "gemma2":
        lm.bare.config.final_logit_softcapping = 0.5  # tight enough to be seen
    rows = compute_logit_lens_rows(lm, ids)
    want = lm.logits(ids[None])[0].softmax(-1)
    assert [row.layer for row in rows] == [0, 1, 2]
    assert np.array_equal(rows[-1].tokens[:, 0], want.argmax(-1).numpy())
    assert rows[-1].probabilities[:, 0] == pytest.approx(want.max(-1).values.numpy(), abs=1e-4)
    first = "blocks.0.hook_resid_post"
    lens = unembed_stream(lm, lm.activations(ids[None], [first])[first][0]).softmax(-1)
    assert rows[0].probabilities == pytest.approx(lens.topk(5).values.numpy(), abs=1e-5)


def test_a_target_is_one_token_and_its_space_may_be_left_out(local: LocalEngine) -> None:
    before = local.read("the cat ran").token_ids
    assert find_target_token(local.lm, before, " park") == VOCAB.index("park")
    assert find_target_token(local.lm, before, "park") == VOCAB.index("park")
    with pytest.raises(InputError, match="is 2 tokens after this prompt"):
        find_target_token(local.lm, before, " park dog")


def test_a_text_is_cut_to_what_the_model_reads(local: LocalEngine) -> None:
    words = " ".join(["cat", "dog", "the"] * 20)
    fit = local.cut_to_context(words)
    assert words.startswith(fit)
    assert len(local.read(fit).token_ids) == local.lm.n_ctx
    assert local.cut_to_context(TEXT) == TEXT


def test_a_chat_goes_through_the_template(local: LocalEngine, monkeypatch) -> None:
    assert not local.chats
    tokenizer = copy.deepcopy(local.lm.tokenizer)
    tokenizer.chat_template = TEMPLATE.replace(
        "m['role']", "'girl' if m['role'] == 'user' else 'boy'"
    )
    monkeypatch.setattr(local.lm, "tokenizer", tokenizer)
    assert local.chats
    read = local.read_chat([{"role": "user", "content": "the cat"}])
    assert [VOCAB[i] for i in read.token_ids] == ["<s>", "girl", "the", "cat"]
    assert read.counted == [False, False, True, True]  # `girl` is the template's
    with pytest.raises(InputError, match="special token"):
        local.read_chat([{"role": "user", "content": "the </s> cat"}])
    with pytest.raises(InputError, match="There is no text"):
        local.read_chat([{"role": "user", "content": " "}])
    with pytest.raises(InputError, match="reads at most"):
        local.read_chat([{"role": "user", "content": "cat " * 40}])
