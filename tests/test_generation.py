"""A stream of tokens under edits: what it must agree with, and how it ends."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from backend.corpus.chat_template import TEMPLATE_ROLE, label_speakers
from backend.generation import token_stream as streams
from backend.generation.prompt_tokenization import PromptTokens, tokenize_chat, tokenize_text
from backend.generation.records import (
    GenerationRow,
    PromptRecord,
    SamplingSettings,
    SummaryRecord,
    TokenRecord,
)
from backend.generation.token_stream import StreamOptions, stream_tokens
from backend.interventions import edit_plan as plans
from backend.interventions.edit_plan import compile_edits
from backend.interventions.edited_logits import compute_edited_logits
from backend.interventions.records import (
    Edit,
    EditCondition,
    EditSchedule,
    FrozenLayers,
    SteeringVector,
)
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.records import FeatureId
from tests.editing import dictionaries, edit
from tests.models import N_CTX, VOCAB, shared, tiny

MODELS = ["llama", "gpt2", "neox", "gemma2"]
PROMPT = "the cat saw the dog and"
WATCH = (
    FeatureId("relu", 0),
    FeatureId("topk", 3),
    *(FeatureId("sequence", i) for i in (13, 14, 22, 30)),
)
KINDS: dict[str, list[Edit]] = {
    "add": [edit("add", "relu/3", strength=5.0)],
    "layers": [edit("clamp", "early/3"), edit("multiply", "topk/3"), edit("zero", "late/7")],
    "generated": [edit("add", "mlp/3", strength=5.0, where=EditCondition("generated"))],
    "ramp": [
        edit("add", "normed/3", where=EditCondition("generated"), when=EditSchedule("ramp", 4))
    ],
    "pattern": [edit("add", "relu/3", where=EditCondition(pattern="cat|^.{0,40}$"))],
    "gate": [edit("add", "late/3", where=EditCondition(gate=FeatureId("topk", 3)))],
    "sequence": [edit("clamp", "sequence/13", strength=3.0)],
    "clean": [edit("add", "early/3"), edit("zero", "late/7", strength=1.0, read="clean")],
    "middle": [edit("add", "middle/3", strength=3.0)],
    "slots": [edit("resample", "relu/3", "relu/11", strength=1.0)],
}


def start(lm: LanguageModel) -> PromptTokens:
    return tokenize_text(lm, PROMPT, bos=True)


def run(
    lm: LanguageModel,
    rows: Sequence[GenerationRow],
    sampling: SamplingSettings,
    extras: StreamOptions | None = None,
    **more,
):
    return list(stream_tokens(lm, dictionaries(), start(lm), rows, sampling, extras, **more))


def tokens_of(records: Sequence[object], row: str) -> list[TokenRecord]:
    return [one for one in records if isinstance(one, TokenRecord) and one.row == row]


def summary(records: Sequence[object], row: str) -> SummaryRecord:
    return next(one for one in records if isinstance(one, SummaryRecord) and one.row == row)


def check_against_one_forward(
    lm: LanguageModel, edits: Sequence[Edit], freeze: FrozenLayers
) -> None:
    """The whole text read at once, without a cache, gives what the stream gave token by token."""
    rows = [GenerationRow("default"), GenerationRow("steered", tuple(edits))]
    extras = StreamOptions(watch=WATCH, freeze=freeze)
    records = run(lm, rows, SamplingSettings(max_new=10, seed=4), extras)
    prompt = list(start(lm).tokens)
    plan = compile_edits(
        lm, dictionaries(), [row.edits for row in rows], watch=WATCH, freeze=freeze, guard=True
    )
    texts = [prompt + summary(records, row.name).tokens for row in rows]
    whole = compute_edited_logits(plan, texts, n_prompt=len(prompt))
    assert whole.kl is not None
    assert whole.watched is not None
    for number, row in enumerate(rows):
        logprobs = whole.logits[number].log_softmax(-1)
        for one in tokens_of(records, row.name):
            at = len(prompt) + one.index - 1
            assert one.logprob == pytest.approx(float(logprobs[at, one.id]), abs=1e-4)
            assert (one.kl or 0) == pytest.approx(float(whole.kl[number, at]), abs=1e-4)
            read = torch.tensor(list(one.read.watched.values()))
            torch.testing.assert_close(read, whole.watched[number, at], atol=5e-5, rtol=1e-4)
            shift = max((float(s[number, at]) for s in whole.shift.values()), default=0.0)
            assert one.read.shift == pytest.approx(shift, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_changes_nothing(tiny_lm: LanguageModel, kind: str) -> None:
    check_against_one_forward(tiny_lm, KINDS[kind], FrozenLayers())


@pytest.mark.parametrize("architecture", MODELS)
def test_a_cache_changes_nothing_in_other_models(architecture: str) -> None:
    check_against_one_forward(shared(architecture), KINDS["layers"], FrozenLayers())


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_frozen_parts_stay_frozen_token_by_token(architecture: str) -> None:
    every = (0, 2)
    check_against_one_forward(
        shared(architecture), KINDS["layers"], FrozenLayers(every, every, every)
    )


@pytest.mark.parametrize("kind", ["layers", "sequence", "clean"])
def test_the_bridge_says_the_same(tiny_lm: LanguageModel, monkeypatch, kind: str) -> None:
    rows = [GenerationRow("default"), GenerationRow("steered", tuple(KINDS[kind]))]
    bare = run(tiny_lm, rows, SamplingSettings(max_new=8))
    monkeypatch.setattr(plans.forward_path, "choose_forward_path", lambda *_: "bridge")
    bridge = run(tiny_lm, rows, SamplingSettings(max_new=8))
    for row in ("default", "steered"):
        assert summary(bare, row).tokens == summary(bridge, row).tokens


def test_rows_in_one_batch_are_as_they_are_alone(tiny_lm: LanguageModel) -> None:
    rows = [GenerationRow("default")]
    rows += [
        GenerationRow(f"{kind} {seed}", tuple(e), seed)
        for kind, e in KINDS.items()
        for seed in (0, 1)
    ]
    together = run(tiny_lm, rows, SamplingSettings(max_new=8, seed=0), StreamOptions(guard=False))
    for row in rows:
        alone = run(tiny_lm, [row], SamplingSettings(max_new=8, seed=0), StreamOptions(guard=False))
        assert summary(together, row.name).tokens == summary(alone, row.name).tokens
    assert len({tuple(summary(together, row.name).tokens) for row in rows}) > 2


@pytest.mark.parametrize("architecture", MODELS)
def test_greedy_is_what_transformers_generates(architecture: str) -> None:
    lm = shared(architecture)
    prompt = torch.tensor([start(lm).tokens])
    network: Any = lm.bare
    want = network.generate(prompt, max_new_tokens=8, do_sample=False, repetition_penalty=1.2)
    got = run(
        lm,
        [GenerationRow("default")],
        SamplingSettings(max_new=8, temperature=0.0, repetition_penalty=1.2),
    )
    assert summary(got, "default").tokens == want[0, prompt.shape[1] :].tolist()


def test_pieces_join_to_the_text(tiny_lm: LanguageModel) -> None:
    records = run(
        tiny_lm, [GenerationRow("a"), GenerationRow("b", seed=1)], SamplingSettings(max_new=12)
    )
    for row in ("a", "b"):
        text = "".join(one.piece for one in tokens_of(records, row))
        said = [one for one in summary(records, row).tokens if one != 1]
        assert text == summary(records, row).text == tiny_lm.tokenizer.decode(said)
    first = records[0]
    assert isinstance(first, PromptRecord)
    assert "".join(first.pieces) == tiny_lm.tokenizer.decode(first.tokens)


def biased(lm: LanguageModel, word: str, after: int) -> Edit:
    """Makes the model say one word from some generated token on."""
    unembed = lm.bare.get_parameter("lm_head.weight")
    values = unembed[VOCAB.index(word)] - unembed.mean(0)
    gain = lm.bare.get_parameter("model.norm.weight")
    vector = SteeringVector(word, "blocks.2.hook_resid_post", tuple((values * gain).tolist()))
    at = tuple(range(len(start(lm).tokens) - 1 + after, N_CTX))
    return Edit("add", vector=vector, strength=500.0, where=EditCondition(positions=at))


def test_a_stop_string_ends_the_text_before_it(tiny_lm: LanguageModel) -> None:
    row = GenerationRow("steered", (biased(tiny_lm, "park", 3),))
    sampling = SamplingSettings(max_new=12, temperature=0.0, stop=("never", "parkpark"))
    records = run(tiny_lm, [row], sampling)
    end = summary(records, "steered")
    assert end.reason == "stop"
    assert "park" not in end.text
    assert "".join(one.piece for one in tokens_of(records, "steered")) == end.text
    assert end.tokens[-2:] == [VOCAB.index("park")] * 2


def test_the_models_own_end_ends_a_row_and_not_the_other(tiny_lm: LanguageModel) -> None:
    rows = [GenerationRow("steered", (biased(tiny_lm, "</s>", 2),)), GenerationRow("default")]
    records = run(tiny_lm, rows, SamplingSettings(max_new=9, temperature=0.0))
    assert summary(records, "steered").reason == "end"
    assert "</s>" not in summary(records, "steered").text
    assert len(summary(records, "steered").tokens) == 3
    assert len(summary(records, "default").tokens) == 9


def test_the_models_limit_is_said(tiny_lm: LanguageModel) -> None:
    records = run(
        tiny_lm, [GenerationRow("default")], SamplingSettings(max_new=99, temperature=0.0)
    )
    end = summary(records, "default")
    assert end.reason == "context"
    assert len(end.tokens) + len(start(tiny_lm).tokens) == N_CTX
    assert end.notes == (f"The text reached the model's limit of {N_CTX} tokens.",)
    first = records[0]
    assert isinstance(first, PromptRecord)
    assert first.notes == (f"tiny-llama reads {N_CTX} tokens at most: there is room for 25.",)


def test_a_stop_is_seen_at_the_next_token(tiny_lm: LanguageModel) -> None:
    stop = threading.Event()
    found = []
    for one in stream_tokens(
        tiny_lm,
        {},
        start(tiny_lm),
        [GenerationRow("default")],
        SamplingSettings(max_new=20),
        stop=stop,
    ):
        found.append(one)
        if isinstance(one, TokenRecord) and one.index == 2:
            stop.set()
    assert summary(found, "default").reason == "stopped"
    assert len(summary(found, "default").tokens) == 3
    late = run(tiny_lm, [GenerationRow("default")], SamplingSettings(max_new=20), seconds=0.0)
    assert summary(late, "default").reason == "time"


def test_between_tokens_nothing_is_left_on_the_model(tiny_lm: LanguageModel) -> None:
    clean = tiny_lm.logits(torch.tensor([start(tiny_lm).tokens]))
    rows = [GenerationRow("steered", tuple(KINDS["layers"]))]
    running = stream_tokens(tiny_lm, dictionaries(), start(tiny_lm), rows, SamplingSettings())
    for _ in range(4):
        next(running)
        assert torch.equal(tiny_lm.logits(torch.tensor([start(tiny_lm).tokens])), clean)
    running.close()


def test_what_the_guard_sees(tiny_lm: LanguageModel) -> None:
    """The clean model on the steered text: its activations, its perplexity."""
    rows = [GenerationRow("steered", tuple(KINDS["layers"]))]
    records = run(tiny_lm, rows, SamplingSettings(max_new=8), StreamOptions(watch=WATCH))
    prompt, said = list(start(tiny_lm).tokens), summary(records, "steered").tokens
    plan = compile_edits(tiny_lm, dictionaries(), [[]], watch=WATCH)
    clean = compute_edited_logits(plan, [prompt + said])
    assert clean.watched is not None
    last = summary(records, "steered").last
    assert last is not None
    assert last.clean is not None
    torch.testing.assert_close(
        torch.tensor(list(last.clean.values())), clean.watched[0, -1], atol=1e-4, rtol=1e-4
    )
    logprobs = clean.logits[0].log_softmax(-1)
    found = [float(logprobs[len(prompt) + i - 1, token]) for i, token in enumerate(said)]
    want = float(torch.tensor(found).mean().neg().exp())
    assert summary(records, "steered").perplexity == pytest.approx(want, rel=1e-3)


def test_an_edit_that_does_nothing_says_so(tiny_lm: LanguageModel) -> None:
    nowhere = edit("add", "relu/3", where=EditCondition(pattern="zebra"))
    records = run(tiny_lm, [GenerationRow("steered", (nowhere,))], SamplingSettings(max_new=3))
    assert "changed nothing" in summary(records, "steered").notes[0]


def test_the_likeliest_tokens_beside_the_clean_models(tiny_lm: LanguageModel) -> None:
    rows = [GenerationRow("default"), GenerationRow("steered", tuple(KINDS["add"]))]
    records = run(tiny_lm, rows, SamplingSettings(max_new=1), StreamOptions(top=3))
    default, steered = (tokens_of(records, name)[0] for name in ("default", "steered"))
    clean = tiny_lm.logits(torch.tensor([start(tiny_lm).tokens]))[0, -1].softmax(-1)
    for token, p, none in default.top:
        assert (p, none) == (pytest.approx(float(clean[token]), rel=1e-4), None)
    for token, p, q in steered.top:
        assert q == pytest.approx(float(clean[token]), rel=1e-4)
        assert p != pytest.approx(q, rel=1e-3)


TEMPLATE = (
    "{% for m in messages %}{{ m.role }} : {{ m.content }} </s> {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)


def test_a_chat_knows_who_speaks() -> None:
    lm = tiny("llama")
    with pytest.raises(InputError, match="no chat template"):
        tokenize_chat(lm, [{"role": "user", "content": "the cat"}])
    lm.tokenizer.chat_template = TEMPLATE
    messages = [{"role": "system", "content": "a dog"}, {"role": "user", "content": "the cat ran"}]
    got = tokenize_chat(lm, messages)
    assert len(got.tokens) == len(got.roles)
    by_role = {
        r: [VOCAB[t] for t, s in zip(*got_pair(got), strict=True) if s == r]
        for r in ("system", "user", TEMPLATE_ROLE)
    }
    assert by_role["user"] == ["the", "cat", "ran"]
    assert by_role["system"] == ["a", "dog"]
    assert by_role[TEMPLATE_ROLE].count("</s>") == 2
    assert set(by_role[TEMPLATE_ROLE]) <= {"<unk>", "</s>"}  # headers


@pytest.mark.parametrize("content", ["user", "s", "the cat ran  ", "a\n\nb", "</", "assistant"])
def test_what_a_message_says_is_told_from_its_header(content: str) -> None:
    """Whatever it says, on a template that writes a system message of its own and trims."""
    tokenizer = tiny("llama").tokenizer
    tokenizer.chat_template = (
        "{% if messages[0].role != 'system' %}<s>system\na user of the cat</s>\n{% endif %}"
        "{% for m in messages %}<s>{{ m.role }}\n{{ m.content | trim }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
    )
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "dog"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    said = {"user": "", "assistant": "", TEMPLATE_ROLE: ""}
    roles = label_speakers(tokenizer, messages, text)
    for role, (low, high) in zip(roles, offsets["offset_mapping"], strict=True):
        said[role] += text[low:high]
    assert said["assistant"] == "dog"
    assert said["user"] == "".join(content.split())  # this tokenizer has no token for spaces


def test_an_edit_leaves_the_templates_own_words_alone() -> None:
    lm = tiny("llama")
    lm.tokenizer.chat_template = "{% for m in messages %}dog {{ m.content }} dog{% endfor %}"
    start = tokenize_chat(lm, [{"role": "user", "content": "the cat"}])
    assert [VOCAB[token] for token in start.tokens] == ["dog", "the", "cat", "dog"]
    for special, wanted in ((False, [False, True, True, False]), (True, [True] * 4)):
        push = edit("add", "relu/3", strength=5.0, where=EditCondition(special=special))
        records = list(
            stream_tokens(
                lm,
                dictionaries(),
                start,
                [GenerationRow("a", (push,))],
                SamplingSettings(max_new=1),
            )
        )
        prompt = next(one for one in records if isinstance(one, PromptRecord))
        assert prompt.template == (True, False, False, True)
        assert [read.shift > 0 for read in prompt.read["a"]] == wanted


def got_pair(got: PromptTokens) -> tuple[tuple[int, ...], tuple[str | None, ...]]:
    return got.tokens, got.roles


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        (SamplingSettings(max_new=0), "ask for at least one"),
        (SamplingSettings(temperature=-1.0), "write 0 or more"),
        (SamplingSettings(top_p=0.0), "above 0, up to 1"),
        (SamplingSettings(stop=("",)), "stop string is empty"),
        (SamplingSettings(repetition_penalty=float("nan")), "1 has no effect"),
    ],
)
def test_settings_that_cannot_be_are_refused(tiny_lm: LanguageModel, sampling, words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(tiny_lm, [GenerationRow("default")], sampling)


def test_prompts_that_cannot_be_are_refused(tiny_lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="no prompt"):
        tokenize_text(tiny_lm, "", bos=True)
    with pytest.raises(InputError, match="new tokens included"):
        tokenize_text(tiny_lm, "the " * N_CTX, bos=True)
    with pytest.raises(InputError, match="at least one row"):
        run(tiny_lm, [GenerationRow("a"), GenerationRow("a")], SamplingSettings())
    crowd = [GenerationRow(str(i), tuple(KINDS["add"])) for i in range(streams.MAX_ROWS)]
    with pytest.raises(InputError, match="too many: at most 256"):
        run(tiny_lm, crowd, replace(SamplingSettings(), max_new=1))
