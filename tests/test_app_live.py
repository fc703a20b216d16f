"""Pages with a live model, over a tiny harvest: the prompt page and a feature tried on a text."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import chatting, session, strip
from backend.engine import LocalEngine
from feature_store.harvest_reader import HarvestFile
from tests.harvests import Rig
from tests.pages import engine_loaded, opened

Open = Callable[..., AppTest]
TEXT = "the cat ran to the park"


@pytest.fixture
def visit(harvested: Path, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Open:
    """A page whose engine is the rig's, already loaded."""
    monkeypatch.setenv(session.STORE, str(harvested.parents[1]))
    found = {one.name: one for one in rig.found}
    here = LocalEngine(rig.lm, found, bos=rig.lm.bos)
    monkeypatch.setattr(LocalEngine, "load", lambda *_: here)

    def go(page: str, **query: str) -> AppTest:
        file = HarvestFile(harvested)
        assert engine_loaded(file)
        return opened(page, **query)

    yield go  # type: ignore[misc]  # a generator fixture


def captions(test: AppTest) -> str:
    return " ".join(caption.value for caption in test.caption).replace("\\", "")


def data(test: AppTest) -> dict:
    (part,) = [p for p in test.get("bidi_component") if "strip" in p.proto.id]
    return json.loads(part.proto.json)


def test_an_empty_prompt_says_what_to_do(visit: Open) -> None:
    test = visit(session.PROMPT)
    assert "Nothing typed yet." in captions(test)
    (button,) = [one for one in test.button if one.label == "Take one from the harvest"]
    taken = button.click().run()
    assert taken.text_area(key="prompt_text").value and data(taken)["tokens"]


def test_a_prompt_shows_tokens_and_features_by_dictionary(visit: Open, rig: Rig) -> None:
    names = [one.name for one in rig.found][:2]
    test = visit(session.PROMPT, text=TEXT, on=names[0])
    assert "6 tokens." in captions(test)
    shown = data(test)
    assert len(shown["tokens"]) == 7 and not shown["tokens"][0]["counted"]
    (one,) = shown["dictionaries"]
    assert one["name"] == names[0]
    assert set(one["of"]) == set(map(int, one["features"]))
    assert len(one["of"]) == len(one["values"]) and min(one["positions"]) > 0


def test_bos_is_shown_when_asked_for(visit: Open, rig: Rig) -> None:
    shown = data(visit(session.PROMPT, text=TEXT, on=rig.found[0].name, bos="1"))
    assert shown["tokens"][0]["counted"] and 0 in shown["dictionaries"][0]["positions"]


def test_features_are_ranked_toward_a_token_and_a_position(visit: Open, rig: Rig) -> None:
    where = {"text": TEXT, "on": rig.found[0].name, "sort": "gradient"}
    test = visit(session.PROMPT, **where, toward="park", at="3")
    assert "toward “park” after position 3" in captions(test)
    (one,) = data(test)["dictionaries"]
    later = [t for p, t in zip(one["positions"], one["toward"], strict=True) if p > 3]
    assert later and not any(later) and any(one["toward"])
    test = visit(session.PROMPT, **where, at="99999")  # no such position: the last one
    assert data(test)["at"] == 6 and "the likeliest" in captions(test)
    test = visit(session.PROMPT, **where, toward=" park dog")
    assert "2 tokens after this" in str([part.value for part in test.markdown])


def test_the_lens_has_a_row_for_each_layer(visit: Open, rig: Rig) -> None:
    lens = data(visit(session.PROMPT, text=TEXT, on=rig.found[0].name, lens="1"))["lens"]
    assert [row["layer"] for row in lens["rows"]] == [0, 1, 2]
    ids = {str(i) for row in lens["rows"] for five in row["tokens"] for i in five}
    assert ids == set(lens["texts"])


def test_all_activations_can_be_taken_away(rig: Rig, harvested: Path) -> None:
    engine = LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)
    read = engine.read(TEXT)
    firing = engine.compute_activations(read, list(engine.dictionaries))
    table = strip.table(read, firing, HarvestFile(harvested).vocabulary)
    assert table.num_rows == sum(len(one.value) for one in firing.values())
    names = "position token_id token counted dictionary feature activation"
    assert table.column_names == names.split()
    row = table.slice(table.num_rows - 1, 1).to_pylist()[0]
    assert row["dictionary"] == list(firing)[-1] and row["token"] == "park" and row["counted"]


def test_a_chat_is_offered_only_with_a_template(
    visit: Open, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = json.dumps([{"role": "user", "content": "the cat"}])
    query = {"as": "chat", "chat": chat, "on": rig.found[0].name}
    assert not visit(session.PROMPT, **query).get("selectbox")[1:]
    tokenizer = copy.deepcopy(rig.lm.tokenizer)
    tokenizer.chat_template = "{% for m in messages %}girl {{ m['content'] }}{% endfor %}"
    monkeypatch.setattr(rig.lm, "tokenizer", tokenizer)
    test = visit(session.PROMPT, **query)
    assert [token["text"] for token in data(test)["tokens"]] == ["<s>", "girl", "the", "cat"]
    test.button[0].click().run()
    assert len(test.text_area) == 2


def test_turns_of_a_url_that_are_none_are_one_empty_turn() -> None:
    empty = [{"role": "user", "content": ""}]
    assert chatting.parse("") == chatting.parse("[1]") == chatting.parse('{"a": 1}') == empty
    assert chatting.parse('[{"role": "root", "content": "x"}]') == empty


def test_a_prompt_that_is_too_long_is_a_sentence(visit: Open, rig: Rig) -> None:
    test = visit(session.PROMPT, text="cat " * (rig.lm.n_ctx + 1))
    assert any("reads at most" in part.value for part in test.markdown)
    test.button[0].click().run()
    assert f"{rig.lm.n_ctx - 1} tokens." in captions(test)


def test_a_feature_is_tried_on_a_text_of_the_url(visit: Open, harvested: Path) -> None:
    file = HarvestFile(harvested)
    name = next(iter(file.dictionaries))
    table = file.feature_table(name, order="density", descending=True, limit=1)
    feature = table.column("feature")[0].as_py()
    test = visit(session.FEATURE, feature=f"{name}/{feature}", test=TEXT)
    assert "of 6 tokens" in captions(test) or "Silent on all 6 tokens." in captions(test)
