"""Gemma 3 is what Hugging Face makes of it: sliding windows, one key-value head, scaled embeddings,
(1 + w) norms. On a random model of two layers, and on Gemma-3-270M where it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backend.dictionaries.activation_rules import ThresholdRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary, single_sites
from backend.features.logit_lens import final_norm_gain
from backend.generation.prompt_tokenization import PromptTokens
from backend.generation.records import GenerationRow, SamplingSettings, TokenRecord
from backend.generation.token_stream import StreamOptions, stream_tokens
from backend.interventions.records import Edit, EditCondition
from backend.model.language_model import LanguageModel
from feature_store.records import FeatureId
from tests.dictionaries import CPU
from tests.models import hf_model, tokenizer

TOLERANCE = 1e-4
"""Largest difference of logits and residual streams, as a share of their norm; float32."""
NEW = 12


@dataclass
class Pair:
    """The same model by Hugging Face alone and as ours."""

    theirs: Any
    ours: LanguageModel
    tokens: list[int]
    """A prompt that is longer than the sliding window."""

    @property
    def layers(self) -> Any:
        return self.theirs.model.layers


def random_pair() -> Pair:
    tokens = torch.randint(4, 50, (10,), generator=torch.Generator().manual_seed(1)).tolist()
    ours = LanguageModel.wrap(hf_model("gemma3"), tokenizer(), "gemma3", CPU)
    return Pair(hf_model("gemma3"), ours, [0, *tokens])


def real_pair(folder: Path) -> Pair:
    from transformers import AutoModelForCausalLM

    ours = LanguageModel.load(str(folder / "gemma-3-270m"), CPU)
    theirs: Any = AutoModelForCausalLM.from_pretrained(
        folder / "gemma-3-270m", dtype=torch.float32, attn_implementation="eager"
    )
    text = " ".join(f"{n}. The old man of the sea told the {n}th story again." for n in range(60))
    ids = ours.tokenizer(text, add_special_tokens=False)["input_ids"]
    window = theirs.config.sliding_window
    assert len(ids) > window + 20
    return Pair(theirs.eval(), ours, [ours.bos, *ids[: window + 20]])


@pytest.fixture(scope="module", params=["random", pytest.param("real", marks=pytest.mark.slow)])
def pair(request: pytest.FixtureRequest) -> Pair:
    if request.param == "random":
        return random_pair()
    return real_pair(request.getfixturevalue("real_models"))


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).float().norm() / other.float().norm())


def with_change(pair: Pair, layer: int, change: Callable[[Tensor], Tensor]) -> Any:
    """Hugging Face's model with a block's output changed until the handle is removed."""

    def after(module: Any, given: Any, out: Any) -> Any:
        return change(out) if isinstance(out, Tensor) else (change(out[0]), *out[1:])

    return pair.layers[layer].register_forward_hook(after)


@torch.no_grad()
def test_logits_and_streams_are_theirs(pair: Pair) -> None:
    ids = torch.tensor([pair.tokens])
    out = pair.theirs(ids, output_hidden_states=True)
    assert apart(pair.ours.logits(ids), out.logits) < TOLERANCE
    n = pair.ours.n_layers
    hooks = [f"blocks.{layer}.hook_resid_pre" for layer in range(n)]
    got = pair.ours.activations(ids, hooks)
    for layer, hook in enumerate(hooks):
        assert apart(got[hook], out.hidden_states[layer]) < TOLERANCE, hook
    final = pair.ours.activations(ids, ["ln_final.hook_out"])["ln_final.hook_out"]
    assert apart(final, out.hidden_states[n]) < TOLERANCE


@torch.no_grad()
def test_an_edited_forward_is_theirs(pair: Pair) -> None:
    ids, push = torch.tensor([pair.tokens]), direction(pair)

    def change(h: Tensor) -> Tensor:
        return h + push

    handle = with_change(pair, 0, change)
    wanted = pair.theirs(ids).logits
    handle.remove()
    got = pair.ours.logits(ids, {"blocks.0.hook_resid_post": change})
    assert apart(got, wanted) < TOLERANCE
    assert apart(got, pair.ours.logits(ids)) > 1e-3


def direction(pair: Pair) -> Tensor:
    """A push as long as the stream after the first block."""
    hook = "blocks.0.hook_resid_post"
    h = pair.ours.activations(torch.tensor([pair.tokens]), [hook])[hook][0, 1:]
    drawn = torch.randn(pair.ours.d_model, generator=torch.Generator().manual_seed(2))
    return drawn / drawn.norm() * h.norm(dim=-1).mean()


@torch.no_grad()
def greedy(pair: Pair, n: int) -> list[int]:
    """Their likeliest tokens, the whole text read again for each: no cache is asked."""
    ids = list(pair.tokens)
    for _ in range(n):
        out = pair.theirs(torch.tensor([ids]), use_cache=False, logits_to_keep=1)
        ids.append(int(out.logits[0, -1].argmax()))
    return ids[len(pair.tokens) :]


@pytest.mark.parametrize("steered", [False, True])
def test_a_text_beyond_the_window_is_written_as_they_would(pair: Pair, steered: bool) -> None:
    """Ours keeps keys and values, of sliding layers the last ones only."""
    push = direction(pair)
    d = len(push)
    coder = AffineCoder(
        torch.zeros(d, 1), torch.zeros(1), push[None], torch.zeros(d), ThresholdRule(None)
    )
    hook = "blocks.0.hook_resid_post"
    one = Dictionary("push", *single_sites(hook, hook, coder), "directions", "push", "", coder)
    everywhere = EditCondition(special=True, bos=True)
    edits = (Edit("add", (FeatureId("push", 0),), 1.0, where=everywhere),) if steered else ()
    said = written(pair, {"push": one}, edits)
    handle = with_change(pair, 0, lambda h: h + push) if steered else None
    assert said == greedy(pair, len(said))
    assert len(said) >= 4
    if handle is not None:
        handle.remove()


def written(pair: Pair, found: dict[str, Dictionary], edits: Sequence[Edit]) -> list[int]:
    start = PromptTokens(tuple(pair.tokens))
    sampling = SamplingSettings(max_new=NEW, temperature=0)
    made = stream_tokens(
        pair.ours,
        found,
        start,
        [GenerationRow("a", tuple(edits))],
        sampling,
        StreamOptions(guard=False),
    )
    return [one.id for one in made if isinstance(one, TokenRecord)]


def test_the_gain_of_a_norm_is_one_more_than_its_weight(pair: Pair) -> None:
    gain = final_norm_gain(pair.ours)
    assert gain is not None
    assert torch.equal(gain, pair.theirs.model.norm.weight.float() + 1)
