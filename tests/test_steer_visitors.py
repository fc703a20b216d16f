"""Eight visitors on the Steer page's own road: runs, queue, threads, catalog."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from app.experiments.keeping import keep
from app.steer import run as runs
from app.steering import Setting
from backend.engine import LocalEngine
from backend.generation.records import SamplingSettings
from feature_store.experiments import Experiments
from feature_store.store import Store
from tests.editing import edit
from tests.harvests import Rig

VISITORS, VISITS = 8, 3


@pytest.fixture
def engine(rig: Rig) -> LocalEngine:
    return LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)


def setting(i: int) -> Setting:
    """Of one visitor: an edit, a prompt and a seed that no other has."""
    edits = (edit("add", f"relu/{i}", strength=4.0 + i),)
    prompt = f"the cat saw {['the dog', 'a ball', 'mum', 'the tree'][i % 4]}"
    return Setting(edits, prompt, SamplingSettings(max_new=8 + i % 3, seed=i))


def finished(run: runs.SteeringRun) -> dict[str, list[int]]:
    """Tokens by row, asked for as a page does."""
    seen: dict = {}
    while not run.done.wait(0.05):
        run.ticket.touch()
        run.message(seen)
    assert not run.error
    return {name: row["tokens"] for name, row in run.story.data["rows"].items()}


def test_each_gets_their_own_text_and_it_is_kept_as_theirs(
    engine: LocalEngine, tmp_path: Path
) -> None:
    store = Store.create(tmp_path / "store")

    def kept(run: runs.SteeringRun) -> str:
        return keep(
            store,
            "steer",
            engine,
            harvest="h",
            dictionaries=["relu"],
            request=run.asked.to_json(),
            result=run.story.data,
        )

    alone = [finished(runs.begin(engine, setting(i), lambda _: "")) for i in range(VISITORS)]
    assert len({str(texts["steered"]) for texts in alone}) > VISITORS // 2
    got: dict[int, list[runs.SteeringRun]] = {i: [] for i in range(VISITORS)}

    def visit(i: int) -> None:
        for _ in range(VISITS):
            run = runs.begin(engine, setting(i), kept)
            finished(run)
            got[i].append(run)

    threads = [threading.Thread(target=visit, args=(i,), daemon=True) for i in range(VISITORS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    assert len(runs.line()) == 0
    for i, mine in got.items():
        assert [finished(run) for run in mine] == [alone[i]] * VISITS
        request = Experiments(store.catalog).open(mine[-1].kept).request
        assert Setting.from_json(request) == setting(i)


def test_a_crowd_is_turned_away_and_those_served_go_on(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = runs.line()
    monkeypatch.setattr(line, "limits", replace(line.limits, at_once=1, waiting=2))
    alone = [finished(runs.begin(engine, setting(i), lambda _: "")) for i in (0, 2)]
    with engine.lm.hold_bridge():  # nobody can compute a token
        inside = [runs.begin(engine, setting(i), lambda _: "") for i in range(3)]
        with pytest.raises(ValueError, match="3 people are using this model"):
            runs.begin(engine, setting(3), lambda _: "")
        until(lambda: [run.ticket.place for run in inside] == [0, 1, 2])
        inside[1].stop()
    assert [finished(inside[i]) for i in (0, 2)] == alone
    assert inside[1].done.wait(10) and inside[1].story.n <= 1


def until(true) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
