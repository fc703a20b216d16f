"""The Contrast page over a tiny harvest: empty, typed, from a link, from files, and refused."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app import session
from app.contrast import chart, running
from app.contrast.running import ContrastCancelled, ContrastQuestion, ContrastRun, python_lines
from app.theme import LIGHT
from backend.engine import LocalEngine
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from tests.harvests import Rig
from tests.pages import engine_loaded, opened

pytestmark = pytest.mark.process
Open = Callable[..., AppTest]
CATS = "\n".join(
    f"the {size} cat {verb}" for size in ("big", "old", "red") for verb in ("ran", "sat")
)
DOGS = CATS.replace("cat", "dog")


@pytest.fixture
def engine(rig: Rig) -> LocalEngine:
    return LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)


@pytest.fixture
def visit(harvested: Path, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """The page at a URL; its engine is the rig's, already loaded."""
    monkeypatch.setenv(session.STORE, str(harvested.parents[1]))
    monkeypatch.setattr(LocalEngine, "load", lambda *_: engine)

    def go(**query: str) -> AppTest:
        file = HarvestFile(harvested)
        assert engine_loaded(file)
        return settled(opened(session.CONTRAST, **query))

    yield go


def settled(test: AppTest) -> AppTest:
    """The page once its comparison has ended."""
    until = time.monotonic() + 60
    while "Comparing:" in said(test) and time.monotonic() < until:
        test.run()
    assert not test.exception
    return test


def said(test: AppTest) -> str:
    parts = [*test.markdown, *test.caption]
    return "\n".join(part.value for part in parts).replace("\\", "")


def press(test: AppTest, label: str) -> AppTest:
    (button,) = [one for one in test.button if one.label == label]
    return settled(button.click().run())


def test_without_texts_it_says_what_it_does(visit: Open) -> None:
    test = visit()
    assert "Two sets of texts, one text a line" in said(test)
    assert "There are no texts in 'A'" in said(press(test, "Compare"))


def test_typed_texts_are_compared_and_stand_in_the_link(visit: Open) -> None:
    test = visit()
    test.text_area(key="contrast_a").set_value(CATS)
    test.text_area(key="contrast_b").set_value(DOGS)
    test.text_input(key="contrast_a_name").set_value("cats").run()
    press(test, "Compare")
    assert "6 cats and 6 B" in said(test) and "every relabelling counted" in said(test)
    (table,) = test.dataframe
    assert table.value["p"].dropna().is_monotonic_increasing and table.value["p"].size > 5
    assert (test.query_params["a"], test.query_params["a_name"]) == (CATS, "cats")
    assert "by" not in test.query_params
    test.text_area(key="contrast_a").set_value("cat").run()
    assert "The fields have changed since" in said(test)


def test_a_link_is_compared_at_once_and_what_it_gets_wrong_is_left_out(visit: Open) -> None:
    test = visit(a="cat\ncat\nbird", b="dog", unit="nope", on="nope", by="share")
    assert "2 A and 1 B" in said(test) and "1 text that stood twice" in said(test)
    assert "Fewer than 5 texts on a side: ranked by effect, without p-values." in said(test)
    assert test.session_state["contrast_unit"] == "document"


def test_what_cannot_be_compared_is_a_sentence(visit: Open) -> None:
    test = visit(a="cat", b="dog", unit="marked")
    assert "Text 1 of 'A' has no mark: put [[ ]] around" in said(test)
    test.text_input(key="contrast_b_name").set_value("A").run()
    assert "Both sides are called 'A'" in said(test)
    test.multiselect(key="contrast_on").set_value([]).run()
    assert "Pick at least one dictionary." in said(test)


def test_markup_in_names_and_texts_stays_text(visit: Open) -> None:
    test = visit(a="cat", b="dog", a_name="<b>*x*</b>")
    assert any("1 \\<b\\>\\*x\\*\\</b\\> and 1 B" in caption.value for caption in test.caption)


def test_files_stand_in_for_the_fields(visit: Open) -> None:
    test = visit()
    test.file_uploader(key="contrast_file_a").upload(
        "x.jsonl", b'{"text": "a cat", "label": "cats"}\n{"text": "old cat", "label": "cats"}', ""
    ).run()
    assert "2 texts of x.jsonl" in said(test)
    assert test.session_state["contrast_a_name"] == "cats"
    test.text_area(key="contrast_b").set_value(DOGS)
    press(test, "Compare")
    assert "2 cats and 6 B" in said(test)
    assert "address does not carry it" in said(test) and "b" not in test.query_params


def test_a_labelled_file_is_all_sides(visit: Open) -> None:
    test = visit()
    rows = "\n".join(
        f'{{"text": "{n} {w}", "label": "{w}"}}'
        for w in ("cat", "dog", "bird")
        for n in ("old", "big")
    )
    test.file_uploader(key="contrast_file_b").upload("x.jsonl", rows.encode(), "").run()
    assert "against all other 2" in said(test)
    test.selectbox(key="contrast_label").select("dog").run()
    press(test, "Compare")
    assert "2 dog and 4 the others" in said(test)
    press(test, "Remove the file")
    assert test.text_area(key="contrast_a")


def test_a_file_that_cannot_be_read_is_a_sentence(visit: Open) -> None:
    test = visit()
    test.file_uploader(key="contrast_file_a").upload("x.jsonl", b"{", "").run()
    assert "x.jsonl, line 1 is not JSON" in said(test)


def test_a_run_that_is_cancelled_or_fails(engine: LocalEngine) -> None:
    names = (next(iter(engine.dictionaries)),)
    asked = ContrastQuestion((("a", ("cat",)), ("b", ("dog",))), names, "document", "share")
    run = ContrastRun(engine, asked)
    assert run.wait(60) and run.result() is not None and run.share == 1
    run.cancel()
    with pytest.raises(ContrastCancelled):
        run._tick(0.5)
    wrong = ContrastRun(engine, ContrastQuestion((("a", ("cat",)),), names, "document", "share"))
    assert wrong.wait(60)
    with pytest.raises(InputError, match="only one set of texts"):
        wrong.result()


def test_a_run_that_breaks_says_what_would_work(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 40 GiB.")

    monkeypatch.setattr(running, "contrast_text_sets", broken)
    run = ContrastRun(
        engine, ContrastQuestion((("a", ("cat",)), ("b", ("dog",))), (), "document", "share")
    )
    assert run.wait(60)
    with pytest.raises(InputError, match="out of memory. Ask for less at once"):
        run.result()


def test_the_lines_of_python_compile_and_carry_short_texts_only() -> None:
    asked = ContrastQuestion(
        (("a", ('it\'s "so"\\',)), ("b", ("x" * 9000,))), ("d",), "last", "share"
    )
    for groups in (asked.groups, asked.groups[:1]):
        lines = python_lines(Path("s"), "h", ContrastQuestion(groups, ("d",), "last", "share"))
        compile(lines, "lines", "exec")
        assert ("so" in lines) == (len(groups) == 1)


def test_every_text_is_a_point_and_its_markup_is_escaped() -> None:
    values = np.array([0.0, 2.0], np.float32)
    figure = chart.strip([("<a>", values, ["x <b>", "y"])], "last token", LIGHT)
    points, mean = figure.data
    assert list(points.x) == [0, 2] and "x &lt;b&gt;" in points.hovertext[0]
    assert list(mean.x) == [1, 1]
    assert figure.layout.yaxis.ticktext == ("&lt;a&gt;<br>1 of 2",)
