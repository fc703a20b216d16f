"""The Ablate page: what is asked in its fields is run, kept, opened again; mistakes are said."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import session
from app.ablate import runs, snippet
from backend.engine import LocalEngine
from feature_store.errors import InputError
from feature_store.experiments import Experiments
from feature_store.harvest_reader import HarvestFile
from feature_store.store import Store
from tests.harvests import Rig
from tests.pages import engine_loaded, opened

Open = Callable[..., AppTest]
PROMPT = "the old cat saw a red ball and then the cat"
LINK = {"prompts": PROMPT, "answer": " took", "wrong": " was"}


@pytest.fixture
def store(harvested: Path, tmp_path: Path) -> Path:
    """A store of the test's own, with the shared harvest in it."""
    (tmp_path / "harvests").mkdir()
    (tmp_path / "harvests" / harvested.name).hardlink_to(harvested)
    return tmp_path


@pytest.fixture
def visit(store: Path, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """The page with its link's parameters, the engine loaded already."""
    monkeypatch.setenv(session.STORE, str(store))
    here = LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)
    monkeypatch.setattr(LocalEngine, "load", lambda *_: here)
    file = HarvestFile(next(store.glob("harvests/*")))

    def go(**query: str | list[str]) -> AppTest:
        assert engine_loaded(file)
        return opened(session.ABLATE, **query)

    yield go


def run(test: AppTest) -> AppTest:
    """Press Run, and wait for the answer."""
    test.button(key="ablate_run").click().run()
    for _ in range(100):
        held = test.session_state["ablate_held"]
        if all(not hasattr(one, "wait") or one.wait(1) for one in held.values()):
            break
    test.run()
    assert not test.exception
    return test


def part(test: AppTest, name: str) -> dict:
    (found,) = [p for p in test.get("bidi_component") if name in p.proto.id]
    return json.loads(found.proto.json)


def said(test: AppTest) -> str:
    return " ".join(m.value.replace("\\", "") for m in test.markdown)


def test_a_run_whose_page_is_left_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a generation does: nobody waits for it, and others want the model."""
    monkeypatch.setattr(runs, "AWAY_S", 0.2)
    going = threading.Event()

    def work(tick: Callable[[int, int], None]) -> dict:
        for number in range(10_000):
            tick(number, 10_000)
            going.set()
            time.sleep(0.01)
        return {}

    one = runs.BackgroundRun("h", {}, work, runs.RunAnswer, costly=False)
    assert going.wait(5)
    for _ in range(20):
        assert not one.wait(0.02), "it goes on as long as somebody asks for it"
    assert one._over.wait(5) and one.left and one.answer() is None


def test_a_link_is_run_kept_and_opened_again(visit: Open, store: Path) -> None:
    test = run(visit(**LINK, part=["top/3", "mlp:1"]))
    rows = part(test, "ablate_effects")["rows"]
    assert [row["cells"][0] for row in rows[:3]] == ["top/3", "mlp:1", "together"]
    (kept,) = Experiments(Store(store).catalog).list_summaries()
    assert kept.kind == "ablate" and kept.request["cases"][0]["answer"] == " took"
    strip = part(test, "ablate_strip")
    assert len(strip["tokens"]) == len(strip["loss"]) == len(strip["kl"]) == len(strip["moved"])
    again = visit(experiment=kept.id)
    assert part(again, "ablate_effects")["rows"] == rows
    assert again.session_state["ablate_parts"] == ["top/3", "mlp:1"]


@pytest.mark.parametrize(("tab", "name"), [("effects", "ablate_cuts"), ("splice", "spliced")])
def test_rankings_and_splices_open_again(visit: Open, store: Path, tab: str, name: str) -> None:
    test = run(visit(**LINK, tab=tab))
    rows = part(test, name)["rows"]
    assert [row["cells"][0] for row in rows] == ["top", "abs", "relu", "seq"]
    (kept,) = Experiments(Store(store).catalog).list_summaries()
    assert part(visit(experiment=kept.id), name)["rows"] == rows


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({}, "no prompt"),
        ({"prompts": PROMPT}, "at least one part"),
        ({**LINK, "part": "mlp:9"}, "layers 0 to 2"),
        ({**LINK, "part": "mlp:0", "answer": " saw a"}, "is 2 tokens"),
        ({**LINK, "part": "mlp:0", "how": "pair"}, "1 prompts and 0 to patch from"),
        ({**LINK, "part": "top/999"}, "features 0 to"),
    ],
)
def test_what_cannot_be_run_is_said(visit: Open, query: dict, says: str) -> None:
    assert says in said(run(visit(**query)))


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"experiment": "nope"}, "no experiment 'nope'"),
        ({"how": "burn"}, "not a kind of ablation"),
        ({"tab": "x"}, "no tab 'x'"),
        ({"part": "mlp:x"}, "not a part"),
    ],
)
def test_a_bad_link_is_a_sentence(visit: Open, query: dict, says: str) -> None:
    assert says in said(visit(**query))


def test_a_read_only_store_shows_what_it_cannot_keep(visit: Open, store: Path) -> None:
    session.store().catalog.writable = False
    test = run(visit(**LINK, part="mlp:1"))
    assert part(test, "ablate_effects")["rows"]
    assert "not kept" in " ".join(c.value for c in test.caption)


def test_a_line_may_carry_its_own_answers(visit: Open, store: Path) -> None:
    run(visit(prompts=f"{PROMPT} | took | was\nthe dog | ran | sat", part="mlp:1"))
    (kept,) = Experiments(Store(store).catalog).list_summaries()
    first, second = kept.request["cases"]
    assert (first["prompt"], first["answer"], first["wrong"]) == (PROMPT, " took", " was")
    assert (second["answer"], second["wrong"]) == (" ran", " sat")


def test_contexts_of_a_feature_are_prompts(visit: Open, store: Path) -> None:
    test = visit(feature="top/3")
    test.session_state["ablate_source"] = "contexts"
    run(test)
    (kept,) = Experiments(Store(store).catalog).list_summaries()
    cases = kept.request["cases"]
    assert cases and all(case["at"] < len(case["tokens"]) for case in cases)


def test_the_lines_of_python_give_the_same(
    visit: Open, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(visit(**LINK, part=["top/3", "mlp:1"]))
    experiments = Experiments(Store(store).catalog)
    kept = experiments.open(experiments.list_summaries()[0].id)
    scope: dict = {}
    exec(snippet.lines(store, kept.harvest, kept.kind, kept.request), scope)
    assert scope["answer"]["joint"] == pytest.approx(kept.result["joint"], abs=1e-5)


def test_a_job_over_a_data_set_is_kept(store: Path, rig: Rig, monkeypatch) -> None:
    from app.jobs import ablating
    from backend.ablation.ablation_requests import AblationRequest, PromptCase
    from backend.ablation.model_parts import ModelPart

    here = LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)
    monkeypatch.setattr(LocalEngine, "load", lambda *_: here)
    opened = Store(store)
    asked = AblationRequest(
        (PromptCase(PROMPT, " took", " was"),) * 6, (ModelPart.parse("top/3"),), controls=30
    )
    steps = []

    class Work:
        arguments = ablating.arguments(opened.harvest().record.id, asked.to_json())

        def progress(self, done: int, total: int, note: str) -> None:
            steps.append((done, total))

    found = ablating.do(opened, Work())  # type: ignore[arg-type]
    kept = Experiments(opened.catalog).open(found["experiment"])
    assert kept.result["n"] == 6 and steps[-1][0] > 0
    assert snippet.form_of(kept.kind, kept.request) == "dataset"
    with pytest.raises(InputError):
        ablating.do(opened, type("Bad", (Work,), {"arguments": {"harvest": "x", "request": {}}})())
