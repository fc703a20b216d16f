"""A steering run on its way: its story, its events, stopping it, leaving it."""

import asyncio
import json
import math
import threading
from dataclasses import replace

import pytest

from app.steer import run, telling
from app.steer.next_tokens import likeliest
from app.steer.story import Story, tail
from app.steering import Setting
from backend.engine import LocalEngine
from backend.generation.records import SamplingSettings
from backend.generation.visitor_queue import GenerationLimits, VisitorQueue
from backend.interventions.records import Edit
from feature_store.records import FeatureId
from tests.harvests import Rig

PROMPT = "the cat ran to the park"
FEATURE = FeatureId("relu", 3)
EDIT = Edit("add", (FEATURE,), 8.0)
SHORT = SamplingSettings(max_new=6, temperature=0.8, seed=3)


@pytest.fixture
def engine(rig: Rig) -> LocalEngine:
    return LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)


def test_steered_and_default_differ_by_the_edit_alone(engine: LocalEngine) -> None:
    """Without strength both texts are the same, token by token; with it the default stays."""
    strong, none = (told(engine, replace(EDIT, strength=s)) for s in (40.0, 0.0))
    rows = none.story.data["rows"]
    assert rows["default"]["tokens"] == rows["steered"]["tokens"]
    assert strong.story.data["rows"]["default"] | {"end": 0} == rows["default"] | {"end": 0}
    assert strong.story.data["rows"]["steered"]["tokens"] != rows["steered"]["tokens"]


def told(
    engine: LocalEngine, edit: Edit = EDIT, sampling: SamplingSettings = SHORT
) -> run.SteeringRun:
    """A run to its end, in this thread."""
    setting = Setting((edit,), PROMPT, sampling)
    one = run.SteeringRun(engine, setting, VisitorQueue().join(), lambda _: "kept")
    one.compute()
    assert not one.error
    return one


def test_heat_has_a_value_for_every_token(engine: LocalEngine) -> None:
    data = told(engine).story.data
    n = len(data["prompt"]["tokens"])
    assert data["prompt"]["counted"] == [False] + [True] * (n - 1)
    for row in data["rows"].values():
        assert len(row["watched"][str(FEATURE)]) == n + len(row["tokens"]) == len(row["shift"])
    steered = data["rows"]["steered"]
    assert len(steered["clean"][str(FEATURE)]) == n + len(steered["tokens"])
    read_again = engine.compute_activations(engine.text(data["prompt"]["tokens"]), ["relu"])[
        "relu"
    ].by_position(3)
    values = data["rows"]["default"]["watched"][str(FEATURE)][:n]
    assert values == pytest.approx([read_again.get(p, 0.0) for p in range(n)], abs=1e-4)


def test_what_is_sent_in_pieces_is_the_whole_story(engine: LocalEngine) -> None:
    """Server-sent events, put behind each other, are what the run knows in the end."""
    setting = Setting((EDIT,), PROMPT, SHORT)
    one = run.SteeringRun(engine, setting, VisitorQueue().join(), lambda _: "")
    thread = threading.Thread(target=one.compute)

    async def listen() -> list[dict]:
        found = []
        async for event in telling.messages(one):
            found.append(json.loads(event.removeprefix("data: ")))
            if len(found) == 1:
                thread.start()
        return found

    messages = asyncio.run(listen())
    thread.join(30)
    whole: dict = {}
    for message in messages:
        put(whole, message["story"])
    assert whole == json.loads(json.dumps(one.story.data))
    assert messages[-1]["state"]["done"] and not messages[0]["state"]["done"]


def put(old: dict, new: dict) -> None:
    """As the page's component does it."""
    for name, value in new.items():
        if isinstance(value, dict):
            old[name] = old.get(name) or {}
            put(old[name], value)
            continue
        old[name] = old.get(name, []) + value if isinstance(value, list) else value


def test_a_tail_is_what_is_new() -> None:
    seen: dict = {}
    assert tail({"a": [1], "b": 2}, seen) == {"a": [1], "b": 2}
    assert tail({"a": [1, 3], "b": 2}, seen) == {"a": [3], "b": 2}


def test_stop_stops_the_computation_and_keeps_what_can_be_done_again(engine: LocalEngine) -> None:
    kept = []
    one = run.SteeringRun(
        engine,
        Setting((EDIT,), PROMPT, replace(SHORT, max_new=20)),
        VisitorQueue().join(),
        lambda r: kept.append(r.story.n) or "id",
    )
    take = one.story.take

    def at_the_third(record, counts) -> None:
        take(record, counts)
        if one.story.n == 3:
            one.stop()

    one.story.take = at_the_third  # type: ignore[method-assign]
    one.compute()
    data = one.story.data["rows"]["steered"]
    assert (len(data["tokens"]), data["end"]["reason"], kept) == (3, "stopped", [3])
    shorter = told(engine, sampling=replace(SHORT, max_new=3)).story.data["rows"]["steered"]
    assert shorter["tokens"] == data["tokens"]


def test_a_visitor_who_left_is_not_computed_for(engine: LocalEngine) -> None:
    now = [0.0]
    queue = VisitorQueue(GenerationLimits(silence=5), clock=lambda: now[0])
    one = run.SteeringRun(engine, Setting((EDIT,), PROMPT, SHORT), queue.join(), lambda _: "kept")
    take = one.story.take

    def later(record, counts) -> None:
        take(record, counts)
        now[0] += 3.0  # nobody listens: nobody touches the ticket

    one.story.take = later  # type: ignore[method-assign]
    one.compute()
    assert 0 < one.story.n < SHORT.max_new and not one.kept
    assert len(queue) == 0


def test_a_place_in_the_line_is_said(engine: LocalEngine) -> None:
    queue = VisitorQueue(GenerationLimits(at_once=1))
    setting = Setting((EDIT,), PROMPT, SHORT)
    runs = [run.SteeringRun(engine, setting, queue.join(), lambda _: "") for _ in range(3)]
    assert [one.said(False) for one in runs] == [
        "reading the prompt",
        "next in line",
        "2 before you",
    ]


def test_next_tokens_are_those_of_the_run(engine: LocalEngine) -> None:
    """The distribution behind a prefix gives the probabilities that the run has noted."""
    one = told(engine)
    data, (row, n) = one.story.data, ("steered", 3)
    prefix = [*data["prompt"]["tokens"], *data["rows"][row]["tokens"][:n]]

    found, kl = likeliest(engine, one.setting, tuple(prefix), "", "")
    assert len(found) == 15 and kl == pytest.approx(data["rows"][row]["kl"][n], rel=1e-3)
    drawn = data["rows"][row]["tokens"][n]
    by_token = {token: (clean, steered) for token, clean, steered in found}
    if drawn in by_token:
        noted = math.exp(data["rows"][row]["logprob"][n])
        assert by_token[drawn][1] == pytest.approx(noted, rel=1e-3)
    tops = [max(pair) for pair in by_token.values()]
    assert tops == sorted(tops, reverse=True)


def test_a_story_says_no_number_that_is_none() -> None:
    story = Story(["default"])
    assert json.dumps(story.data, allow_nan=False)
