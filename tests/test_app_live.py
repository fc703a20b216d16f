"""Pages with a live model, over a tiny harvest: the prompt page and a feature tried on a text."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import live, session
from app.serve import MAIN
from backend.engine import LocalEngine
from feature_store.reader import HarvestFile
from tests.harvests import Rig

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
        assert live.loading(file, file.record.id).done.wait(30)
        test = AppTest.from_file(str(MAIN), default_timeout=60)
        test.run()
        for name, value in query.items():
            test.query_params[name] = value
        test.switch_page(page).run()
        assert not test.exception
        return test

    yield go  # type: ignore[misc]  # a generator fixture
    live.loading.clear()


def captions(test: AppTest) -> str:
    return " ".join(caption.value for caption in test.caption)


def data(test: AppTest) -> dict:
    import json

    (part,) = [p for p in test.get("bidi_component") if "strip" in p.proto.id]
    return json.loads(part.proto.json)


def test_an_empty_prompt_says_what_to_do(visit: Open) -> None:
    assert "Nothing typed yet." in captions(visit(session.PROMPT))


def test_a_prompt_shows_tokens_and_features_by_dictionary(visit: Open, rig: Rig) -> None:
    names = [one.name for one in rig.found][:2]
    test = visit(session.PROMPT, text=TEXT, on=names[0])
    assert "6 tokens." in captions(test)
    shown = data(test)
    assert len(shown["tokens"]) == 7 and not shown["tokens"][0]["counted"]
    (one,) = shown["dictionaries"]
    assert one["name"] == names[0]
    assert {f for _, f, _ in one["triples"]} == set(map(int, one["features"]))
    assert all(position > 0 for position, _, _ in one["triples"])


def test_a_prompt_that_is_too_long_is_a_sentence(visit: Open, rig: Rig) -> None:
    test = visit(session.PROMPT, text="cat " * (rig.lm.n_ctx + 1))
    assert any("reads at most" in part.value for part in test.markdown)


def test_a_feature_is_tried_on_a_text_of_the_url(visit: Open, harvested: Path) -> None:
    file = HarvestFile(harvested)
    name = next(iter(file.dictionaries))
    table = file.feature_table(name, order="density", descending=True, limit=1)
    feature = table.column("feature")[0].as_py()
    test = visit(session.FEATURE, feature=f"{name}/{feature}", test=TEXT)
    assert "of 6 tokens" in captions(test) or "Silent on all 6 tokens." in captions(test)
