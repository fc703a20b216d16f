"""What costs money or computing time is refused to strangers where it begins, on every page."""

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app import session
from app.ablate.runs import BackgroundRun
from app.contrast import running as contrast
from app.experiments.keeping import keep
from app.jobs import starting
from app.steer_more import judging, task
from app.steer_more.dose import TITLE
from app.steer_more.sweeping import Sweep
from app.steer_more.sweeping import request as sweep_request
from autointerp.llm import CallLog, LlmServer, open_asker
from backend.engine import LocalEngine
from backend.generation.steering_request import SteeringRequest
from backend.interventions.records import Edit
from backend.steering.sweep_results import MeasuredText, StrengthTexts, SweepOutcome
from feature_store.errors import InputError
from feature_store.jobs import Jobs
from feature_store.permissions import REFUSAL, SHARED, VARIABLE
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.harvests import Rig
from tests.openai_server import Server as FakeServer
from tests.openai_server import always, serve
from tests.pages import engine_loaded, opened

Open = Callable[..., AppTest]
EDIT = Edit("add", (FeatureId("relu", 3),), 2.0)
RATING = json.dumps({"concept": 2, "instruction": 2, "fluency": 1})


def finished_sweep() -> SweepOutcome:
    def dose(strength: float) -> StrengthTexts:
        return StrengthTexts(
            strength, (MeasuredText(0, 0, f"{strength} walks", 2, {"kl": strength}),)
        )

    return SweepOutcome(dose(-1.0), (dose(0.0), dose(1.0)), {}, neutral=0.0)


@pytest.fixture
def engine(rig: Rig) -> LocalEngine:
    return LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)


@pytest.fixture
def store(harvested: Path, tmp_path: Path) -> Store:
    shutil.copytree(harvested.parent, tmp_path / "store" / "harvests")
    return Store(tmp_path / "store")


@pytest.fixture
def judged_sweep(
    store: Store, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Open the Steer page on a kept sweep, with a language-model server that can be asked."""
    with serve(always(RATING)) as server:
        config = tmp_path / "servers.toml"
        config.write_text(f'[servers.lab]\nbase_url = "{server.base_url}"\nmodels = ["m"]\n')
        monkeypatch.setenv("SAEFARI_SERVERS", str(config))
        monkeypatch.setenv(session.STORE, str(store.path))
        monkeypatch.setattr(LocalEngine, "load", lambda *_: engine)
        file = store.harvest()
        assert engine_loaded(file)
        request = sweep_request(SteeringRequest("the cat", (EDIT,)), Sweep((0.0, 1.0), seeds=1))
        name = keep(
            store,
            "sweep",
            engine,
            harvest=file.record.id,
            dictionaries={"relu"},
            request=request,
            result=finished_sweep().to_json(),
        )
        test = opened(session.STEER, experiment=name, more=TITLE)
        field = next(one for one in test.text_input if one.key.startswith("judge_concept"))
        yield field.input("walks").run(), server


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_button_of_the_steering_judge_judges(judged_sweep: tuple[AppTest, FakeServer]) -> None:
    """Pressed on the page, it asks about each text once and shows the score."""
    test, server = judged_sweep
    test.button(key="judge_run").click().run()
    wait_for(lambda: test.session_state[judging.TASK].done.is_set())
    assert test.session_state[judging.TASK].error == ""
    test.run()
    assert not test.exception and server.calls == 3
    assert any("m judged 3 texts for" in one.value for one in test.markdown)


def test_a_strangers_press_asks_no_language_model(
    judged_sweep: tuple[AppTest, FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A press that comes all the same, from a page drawn before, is refused; then it is off."""
    test, server = judged_sweep
    button = test.button(key="judge_run")
    monkeypatch.setenv(VARIABLE, "0")
    button.click().run()
    button = test.button(key="judge_run")
    assert button.disabled and button.help == REFUSAL
    assert any("--allow-jobs" in one.value.replace("\\", "") for one in test.markdown)
    assert not test.exception and server.calls == 0 and judging.TASK not in test.session_state


def begin_job(store: Store) -> Any:
    return starting.start(store.path, "map", {}, "one")


def resume_job(store: Store) -> Any:
    return starting.resume(store.path, Jobs(store.path).create("map", {}, "one"))


def begin_task(store: Store) -> Any:
    return task.start("sweep", {}, lambda mine: None, judging.ServerTicket())


def begin_ranking(store: Store) -> Any:
    return BackgroundRun("h", {}, lambda tick: {}, lambda *_: None, costly=True)


def begin_contrast(store: Store) -> Any:
    return contrast.ContrastRun(None, None)  # type: ignore[arg-type]


def ask_language_model(store: Store) -> Any:
    async def connect() -> None:
        with CallLog(store.path / "calls.duckdb") as calls:
            async with open_asker(LlmServer("lab", "http://127.0.0.1:9/v1"), "m", calls):
                pass

    return asyncio.run(connect())


COSTLY = [begin_job, resume_job, begin_task, begin_ranking, begin_contrast, ask_language_model]


@pytest.mark.parametrize("begin", COSTLY, ids=lambda one: one.__name__)
@pytest.mark.parametrize("said", ["0", "", "yes"])
def test_costly_work_is_refused_where_it_begins(
    begin: Callable[[Store], Any], said: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No page has to remember the check, and only a plain yes permits."""
    spawned: list[Any] = []
    monkeypatch.setattr(starting, "spawn", lambda *given: spawned.append(given))
    monkeypatch.setenv(VARIABLE, said)
    with pytest.raises(InputError, match="--allow-jobs"):
        begin(store)
    assert spawned == []


def every_text(test: AppTest) -> list[str]:
    """The data of all elements of a page, components among them, as text."""
    return [str(element.proto) for element in walk(test.main)]


def walk(block: Any) -> Iterator[Any]:
    for child in block.children.values():
        if hasattr(child, "children"):
            yield from walk(child)
        else:
            yield child


@pytest.mark.parametrize("shared", ["0", "1"])
def test_visitors_do_not_see_where_things_lie(
    store: Store, monkeypatch: pytest.MonkeyPatch, shared: str
) -> None:
    """Commands and scripts name the store's folder; its whole path is for its owner's pages."""
    monkeypatch.setenv(SHARED, shared)
    monkeypatch.setenv(session.STORE, str(store.path))
    shown: list[str] = []
    for page in (
        session.LIBRARY,
        session.FEATURES,
        session.MAP,
        session.SQL,
        session.LISTS,
        session.CONTRAST,
        session.SCORES,
        session.JOBS,
    ):
        shown += every_text(opened(page))
    query = {"harvest": store.harvest().record.id, "feature": "relu/3"}
    shown += every_text(opened(session.FEATURE, **query))
    assert any(str(store.path) in one for one in shown) is (shared == "0")


def test_pages_that_another_server_shows_start_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`streamlit run` binds to every address and says nothing of who may come."""
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv(session.STORE, str(store.path))
    test = opened(session.JOBS)
    assert any("--allow-jobs" in one.value for one in test.caption)
    with pytest.raises(InputError):
        begin_job(store)
