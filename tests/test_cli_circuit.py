"""`saefari circuit`: the graph as data, kept in a store that is named, or a sentence."""

import json
from pathlib import Path

import pytest

from app.cli import main
from feature_store.saved_circuits import SavedCircuits
from feature_store.store import Store
from tests.commands import World, answer, data, make_world, refusal
from tests.dictionaries import saved

Capture = pytest.CaptureFixture[str]
PROMPT = "the old cat saw a red ball and then the cat"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """With a transcoder of layer 1 besides."""
    found = make_world(tmp_path_factory.mktemp("world"))
    hooks = {"hook_name": "blocks.1.ln2.hook_normalized", "hook_name_out": "blocks.1.hook_mlp_out"}
    saved(found.path / "mlp", "transcoder", d_in=16, d_out=16, metadata=hooks)
    return found


@pytest.fixture(scope="module")
def store(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store")
    assert main(world.harvest(path, dictionary=world.path / "mlp")) == 0
    return path


def words(world: World, *more: str, **changes: object) -> list[str]:
    options = {
        "model": world.model,
        "dictionary": world.path / "mlp",
        "prompt": PROMPT,
        "target": " took",
        "against": " was",
        "method": "attribution-graph",
        **changes,
    }
    given = [w for k, v in options.items() if v is not None for w in (f"--{k}", str(v))]
    return ["circuit", *given, *more]


def test_the_graph_is_there_as_data(world: World, capsys: Capture) -> None:
    found = data(words(world), capsys)
    ids = {node["id"] for node in found["nodes"]}
    assert {"id", "kind", "dictionary", "feature", "position", "effect"} <= found["nodes"][0].keys()
    assert all({edge["source"], edge["target"]} <= ids for edge in found["edges"])
    assert {"faithfulness", "completeness", "error_share"} <= found.keys() and found["curves"]
    assert {point["errors"] for point in found["held"]} == {"count", "keep", "remove"}
    assert found["experiment"] is None and found["method"] == "attribution-graph"
    assert {node["kind"] for node in found["nodes"]} == {"feature", "error", "token", "logit"}


def test_a_budget_is_kept_and_said(world: World, capsys: Capture) -> None:
    found = data(words(world, nodes=3, edges=2), capsys)
    judged = [node for node in found["nodes"] if node["kind"] in ("feature", "error")]
    assert len(judged) == 3 and len(found["edges"]) == 2
    assert any(note.startswith("Cut to the budget: the strongest 3 of") for note in found["notes"])


def test_it_is_kept_where_a_store_is_named(world: World, store: Path, capsys: Capture) -> None:
    found = data(words(world, store=store), capsys)
    kept = SavedCircuits(Store(store).catalog).open(found["experiment"])
    assert kept.experiment.request["targets"] == [" took"]
    assert kept.experiment.result["nodes"] == len(found["nodes"])
    said = answer(words(world, store=store), capsys)
    assert "kept as " + found["experiment"] in said
    assert "with patterns and norms frozen" in " ".join(said.split())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"prompt": None},
            "Give exactly one of --prompt TEXT, --prompts FILE.jsonl and --task NAME.",
        ),
        ({"task": "induction"}, "Give exactly one of"),
        ({"prompt": None, "corrupt": "x"}, "--corrupt needs --prompt"),
        ({"method": "attribution"}, "No method called 'attribution'."),
        ({"target": " took the"}, "is 2 tokens after this prompt"),
        ({"target": None}, "something to compare with and no target"),
        ({"from": "mlp/3"}, "Give a next token as the target, or a feature: not both."),
        ({"dictionary": "{world}/top"}, "none of the dictionaries is one"),
        ({"prompts": "nowhere.jsonl", "prompt": None}, "nowhere.jsonl does not exist"),
        ({"baseline": "some"}, "No baseline called 'some'"),
        ({"prompt": ""}, "--prompt is empty"),
    ],
)
def test_what_cannot_be_asked(world: World, changes: dict, said: str, capsys: Capture) -> None:
    given = {k: v.format(world=world.path) if isinstance(v, str) else v for k, v in changes.items()}
    assert said in refusal(words(world, **given), capsys)


def test_twins_of_different_length_are_shown_token_by_token(world: World, capsys: Capture) -> None:
    said = refusal(words(world, method="sparse-features", corrupt=PROMPT + " took"), capsys)
    assert "Prompt 1 has 12 tokens and its corrupt twin 13" in said
    assert "[cat]. Corrupt: [<s>]" in said.replace("[ cat]", "[cat]") and "took]." in said


def test_a_file_of_prompts(world: World, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps({"prompt": PROMPT, "answer": " took", "wrong": " was"}) + "\n")
    given = words(world, prompt=None, target=None, against=None, prompts=file)
    assert data(given, capsys)["edges"] == data(words(world), capsys)["edges"]
    file.write_text('{"prompt": 3}\n')
    assert "line 1: prompt is not a text" in refusal(given, capsys)
