"""Commands that run a tiny model, in this process: what they refuse, and what they leave."""

import json
import os
import shutil
from pathlib import Path

import pytest

from app.wording import count
from backend.harvest.work_folder import WorkLock
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.commands import World, answer, data, make_world, refusal
from tests.dictionaries import HOOK, saved

Capture = pytest.CaptureFixture[str]
LIKE_THIS = (
    "{0}.hook_resid_pre, {0}.hook_resid_mid, {0}.hook_resid_post, {0}.hook_attn_out, "
    "{0}.hook_mlp_out, {0}.attn.hook_z, {0}.ln1.hook_normalized, {0}.ln2.hook_normalized"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def filled(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one harvest of `top` and of `abs`, called `signed`; read only."""
    from app.cli import main

    store = tmp_path_factory.mktemp("filled") / "store"
    assert main([*world.harvest(store), "--dictionary", f"signed={world.path / 'abs'}"]) == 0
    return store


def test_a_hook_point_that_the_model_lacks(world: World, tmp_path: Path, capsys: Capture) -> None:
    deep = saved(
        tmp_path / "deep", "topk", d_in=16, metadata={"hook_name": "blocks.7.hook_mlp_out"}
    )
    want = (
        "model has no hook point 'blocks.7.hook_mlp_out'. Did you mean 'blocks.2.hook_mlp_out'? It "
        f"has 3 layers, and in blocks.0: {LIKE_THIS.format('blocks.0')}."
    )
    for words in (world.harvest(tmp_path / "store", dictionary=deep), check(world, deep)):
        assert refusal(words, capsys) == want
    said = refusal(world.harvest(tmp_path / "s", dictionary="identity:blocks.1.hook_resid"), capsys)
    assert said == (
        "model has no hook point 'blocks.1.hook_resid'. Did you mean 'blocks.1.hook_resid_pre'? It "
        f"has 3 layers, and in blocks.1: {LIKE_THIS.format('blocks.1')}."
    )


def check(world: World, dictionary: Path | str) -> list[str]:
    return [
        "check",
        "--model",
        str(world.model),
        "--dictionary",
        str(dictionary),
        "--corpus",
        str(world.corpus),
    ]


def test_a_width_that_does_not_fit(world: World, tmp_path: Path, capsys: Capture) -> None:
    narrow = saved(tmp_path / "narrow", "topk", d_in=12)
    want = (
        f"narrow reads vectors of 12 at {HOOK}, where model has 16; no usual hook point has that "
        "width, so it belongs to another model."
    )
    for words in (world.harvest(tmp_path / "store", dictionary=narrow), check(world, narrow)):
        assert refusal(words, capsys) == want


def test_a_model_that_the_hub_does_not_give(world: World, tmp_path: Path, capsys: Capture) -> None:
    said = refusal(world.harvest(tmp_path / "store", model="no-such-org/no-such-model"), capsys)
    assert said.startswith(
        "No model 'no-such-org/no-such-model': there is no such folder, and the Hugging Face hub "
        "does not give it ("
    )


def test_dictionaries_that_want_different_beginnings(
    world: World, tmp_path: Path, capsys: Capture
) -> None:
    bare = saved(tmp_path / "bare", "topk", d_in=16, metadata={"prepend_bos": False})
    words = [*world.harvest(tmp_path / "store"), "--dictionary", str(bare)]
    assert refusal(words, capsys) == (
        "top was trained with a BOS token in front of each sequence and bare without. Harvest them "
        "separately."
    )


def test_chat_without_a_template(world: World, tmp_path: Path, capsys: Capture) -> None:
    chat = tmp_path / "chat.jsonl"
    chat.write_text(json.dumps({"messages": [{"role": "user", "content": "the cat"}]}))
    said = f"{chat}, line 1 is a chat transcript, which needs a model with a chat template."
    assert refusal(world.harvest(tmp_path / "store", corpus=chat), capsys) == said
    assert refusal([*check(world, world.path / "top"), "--corpus", str(chat)], capsys) == said


def test_chat_goes_through_the_models_template(
    world: World, tmp_path: Path, capsys: Capture
) -> None:
    """In a harvest and in the check before it; thirty transcripts of seven tokens each."""
    model = tmp_path / "model"
    shutil.copytree(world.model, model)
    template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    (model / "chat_template.jinja").write_text(template)
    turns = [("user", "the cat saw a bird"), ("assistant", "one was")]
    row = json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]})
    chat = tmp_path / "chat.jsonl"
    chat.write_text(f"{row}\n" * 30)
    words = ["--model", str(model), "--dictionary", str(world.path / "top"), "--corpus", str(chat)]
    found = data(["check", *words], capsys)["top"]
    assert (found["n_documents"], found["n_tokens"]) == (30, 210)
    made = data(["harvest", *words, "--store", str(tmp_path / "store")], capsys)
    assert made["tokens"] == 210


def test_a_harvest_in_work_names_its_process(world: World, tmp_path: Path, capsys: Capture) -> None:
    """Held here by this very process, as another one would."""
    store = tmp_path / "store"
    assert "This shard of harvest" in answer(world.harvest(store, "--shard", "1/2"), capsys)
    (one,) = Store(store).unfinished()
    listed = answer(["list", "--store", str(store)], capsys)
    assert listed.splitlines() == [
        f"{store} holds no finished harvest.",
        f"Unfinished: {one.id}. The same harvest command resumes it.",
    ]
    with WorkLock(one.path / "shard-2-of-2", "it"):
        assert refusal(world.harvest(store, "--shard", "2/2"), capsys) == (
            f"The harvest {one.id} is being made by process {os.getpid()}. Wait until it ends, or "
            "stop it: the same command then resumes where it stopped."
        )
    assert f"Harvest {one.id} is finished." in answer(
        world.harvest(store, "--shard", "2/2"), capsys
    )
    assert Store(store).unfinished() == []


def test_harvest_then_list_show_prompt_and_check(
    filled: Path, world: World, capsys: Capture
) -> None:
    store = ["--store", str(filled)]
    (one,) = data(["list", *store], capsys)["harvests"]
    signs = {d["dictionary"]: d["signed"] for d in one["dictionaries"]}
    assert signs == {"top": False, "signed": True}
    assert (one["model"], one["model_source"], one["tokens"]) == ("model", "model", 600)
    out = answer(["list", *store], capsys)
    assert out.startswith(f"{one['id']}  model on text.jsonl: 600 tokens, ")

    file = Store(filled).harvest()
    alive = [file.facts(FeatureId("top", i)) for i in range(48)]
    busy = max(alive, key=lambda facts: facts.n_active).feature
    shown = answer(["show", f"top/{busy}", *store], capsys)
    facts = data(["show", f"top/{busy}", *store], capsys)["facts"]
    assert f"({count(facts['n_active'])} of 600 tokens)" in shown and "\ntop\n" in shown
    assert "1. " in answer(["prompt", f"top/{busy}", *store], capsys)


def test_a_signed_dictionary_shows_both_sides(filled: Path, capsys: Capture) -> None:
    file = Store(filled).harvest()
    found = [file.facts(FeatureId("signed", i)) for i in range(24)]
    both = next(
        f.feature
        for f in found
        if f.positive and f.positive.n_active and f.negative and f.negative.n_active
    )
    words = ["show", f"signed/{both}", "--store", str(filled)]
    out = answer(words, capsys)
    assert "\ntop\n" in out and "\nbottom\n" in out
    values = {c["stratum"]: c["value"] for c in data(words, capsys)["contexts"]}
    assert values["top"] > 0 > values["bottom"]


def test_a_second_time_says_so_and_again_makes_another(
    filled: Path, world: World, capsys: Capture
) -> None:
    words = [*world.harvest(filled), "--dictionary", f"signed={world.path / 'abs'}"]
    first = Store(filled).harvest().record.id
    assert answer(words, capsys) == (
        f"Harvest {first} was finished before. Open it: saefari app --store {filled} "
        "(or harvest again with --again)\n"
    )
    assert data(words, capsys)["outcome"] == "already"
    made = data([*words, "--again"], capsys)
    assert (made["harvest"], made["outcome"]) == (f"{first}-2", "published")
    assert set(made["checks"]) == {"top", "signed"}
    assert [h["id"] for h in data(["list", "--store", str(filled)], capsys)["harvests"]] == [
        f"{first}-2",
        first,
    ]
    (filled / "harvests" / f"{first}-2.duckdb").unlink()  # other tests count on one


def test_another_budget_is_another_harvest(world: World, tmp_path: Path, capsys: Capture) -> None:
    ids = {data(world.harvest(tmp_path / "store", tokens=n), capsys)["harvest"] for n in (90, 91)}
    assert len(ids) == 2


def test_check_prints_the_same_as_its_data(world: World, capsys: Capture) -> None:
    words = [*check(world, world.path / "top"), "--dictionary", f"signed={world.path / 'abs'}"]
    out, found = answer(words, capsys), data(words, capsys)
    assert list(found) == ["top", "signed"]
    for name, numbers in found.items():
        part = out.split(f"{name} on model\n")[1]
        pieces, documents = numbers["n_pieces"], numbers["n_documents"]
        assert f"{count(numbers['n_tokens'])} tokens in {pieces} pieces of {documents} docu" in part
        assert numbers["words"] and all(words in part for words in numbers["words"])


def test_progress_of_a_pipe_names_the_stages(world: World, tmp_path: Path, capsys: Capture) -> None:
    from app.cli import main

    assert main(world.harvest(tmp_path / "store")) == 0
    lines = capsys.readouterr().err.splitlines()
    stages = ["load model", "read corpus", "self-check", "harvest", "logits of top", "write"]
    assert [line for line in lines if line in stages] == stages
