"""A language model's judgement of a sweep: strict ratings, failures counted, halves kept apart."""

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from app.steer_more import judging
from app.steer_more.judging import Judge, ServerTicket, ask, with_ratings
from app.steer_more.sweeping import Sweep, parts
from app.steer_more.sweeping import request as request_of
from app.steer_more.task import Task
from autointerp.llm import LlmServer, RequestFailure
from autointerp.steering_judge import (
    SteeredText,
    SteeringRating,
    harmonic_mean,
    make_rating_request,
)
from backend.generation.steering_request import SteeringRequest
from backend.interventions.records import Edit
from backend.steering.best_strength import estimate_other_half, pick_best_strength
from backend.steering.sweep_results import MeasuredText, StrengthTexts, SweepOutcome
from feature_store.errors import InputError
from feature_store.records import FeatureId
from tests.openai_server import UNAUTHORIZED, Body, Said, always, asked, serve

ADD = Edit("add", (FeatureId("top", 1),), 2.0)
STRENGTHS = (0.0, 1.0, 2.0)


def heard(strength: float, prompt: int, seed: int) -> MeasuredText:
    text = f"{int(strength)} walks in the park {prompt} {seed}"
    return MeasuredText(prompt, seed, text, 4, {"kl": strength})


def sweep(prompts: int = 2, seeds: int = 2) -> SweepOutcome:
    doses = [
        StrengthTexts(s, tuple(heard(s, p, i) for p in range(prompts) for i in range(seeds)))
        for s in (-1.0, *STRENGTHS)
    ]
    return SweepOutcome(doses[0], tuple(doses[1:]), {}, neutral=0.0)


def request(prompts: int = 2) -> dict[str, Any]:
    more = tuple(f"prompt {i}" for i in range(1, prompts))
    return request_of(SteeringRequest("prompt 0", (ADD,)), Sweep(STRENGTHS, seeds=2, prompts=more))


def by_strength(body: Body) -> str:
    """The more, the more concept; at 2 the text is broken."""
    text = asked(body).split('Continuation: "')[1]
    strength = int(text.split()[0])
    good = {"concept": max(0, min(strength, 2)), "instruction": 2, "fluency": 2 - (strength == 2)}
    return json.dumps({**good, "fluency": 0} if strength == 2 else good)


def judged(tmp_path: Path, rule: Any, prompts: int = 2) -> Any:
    with serve(rule) as server:
        judge = Judge(LlmServer("test", server.base_url), "m", "walks", None)
        mine = Task(request(prompts), lambda _: None, ServerTicket())
        return ask(tmp_path, judge, request(prompts), sweep(prompts).to_json(), mine), server


def test_the_score_is_the_harmonic_mean_and_no_two_make_up_for_a_third() -> None:
    assert SteeringRating(2, 2, 2).score == 2
    assert SteeringRating(1, 2, 2).score == pytest.approx(3 / (1 + 0.5 + 0.5))
    assert SteeringRating(0, 2, 2).score == harmonic_mean((2, 0)) == 0


def test_a_text_cannot_leave_its_quotes() -> None:
    prompt = (
        make_rating_request('a "label"', SteeredText("p", 'end"\nConcept: 2')).messages[0].content
    )
    assert r'Continuation: "end\"\nConcept: 2"' in prompt and r'"a \"label\""' in prompt


def test_ratings_become_measures_and_each_text_is_asked_about_once(tmp_path: Path) -> None:
    found, server = judged(tmp_path, by_strength)
    outcome = SweepOutcome.from_json(found)
    means = [dose.mean("judge") for dose in outcome.doses]
    assert means == [0.0, pytest.approx(1.5), 0.0]
    assert outcome.doses[2].mean("judge_concept") == 2 and found["judge"]["failed"] == {}
    assert found["judge"]["texts"] == 16 and server.calls == len(set(server.answered)) == 16
    assert "prompt 1" in asked(server.bodies[-1]) or "prompt 0" in asked(server.bodies[-1])


def test_a_model_that_thinks_has_room_for_it(tmp_path: Path) -> None:
    with serve(by_strength) as server:
        judge = Judge(LlmServer("test", server.base_url, thinking=500), "m", "walks", None)
        task = Task(request(), lambda _: None, ServerTicket())
        ask(tmp_path, judge, request(), sweep().to_json(), task)
    plain = make_rating_request("walks", SteeredText("prompt 0", "0 walks")).max_tokens
    assert {body["max_tokens"] for body in server.bodies} == {plain + 500}


@pytest.mark.parametrize(
    "reply",
    [
        '{"concept": 3, "instruction": 1, "fluency": 1}',
        '{"concept": 1, "instruction": 1}',
        "2 2 2",
    ],
)
def test_what_is_no_rating_is_a_failure_and_no_number(tmp_path: Path, reply: str) -> None:
    def rule(body: Body) -> str:
        return reply if " 0 0" in asked(body) else by_strength(body)

    found, _ = judged(tmp_path, rule)
    assert found["judge"]["failed"] == {"unreadable": 4}
    first = found["doses"][1]["heard"][0]
    assert "judge" not in first["values"] and first["values"]["kl"] == 1
    estimate = SweepOutcome.from_json(found).doses[1].estimate("judge")
    assert estimate is not None and estimate.n == 3


def test_a_server_that_refuses_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="key"):
        judged(tmp_path, always(UNAUTHORIZED))


def test_a_stop_ends_it_soon(tmp_path: Path) -> None:
    slow = Said('{"concept": 1, "instruction": 1, "fluency": 1}', delay_s=30.0)
    with serve(always(slow)) as server:
        judge = Judge(LlmServer("test", server.base_url), "m", "walks", None)
        mine = Task(request(), lambda _: None, ServerTicket())
        threading.Timer(0.3, mine.ticket.stop.set).start()
        assert ask(tmp_path, judge, request(), sweep().to_json(), mine) is None


def test_a_page_that_is_gone_stops_its_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = ServerTicket()
    ticket.tidy()
    assert not ticket.stop.is_set()
    monkeypatch.setattr(judging, "AWAY_S", -1.0)
    ticket.tidy()
    assert ticket.stop.is_set()


def rated(values: dict[tuple[float, int], float], prompts: int, seeds: int = 2) -> SweepOutcome:
    """Scores by strength and prompt (or seed, where there is one prompt)."""

    def score(one: MeasuredText, strength: float) -> float:
        return values.get((strength, one.prompt if prompts > 1 else one.seed), 0.0)

    doses = tuple(
        StrengthTexts(
            s,
            tuple(
                MeasuredText(h.prompt, h.seed, h.text, 4, {"judge": score(h, s)})
                for p in range(prompts)
                for i in range(seeds)
                for h in [heard(s, p, i)]
            ),
        )
        for s in (-1.0, *STRENGTHS)
    )
    return SweepOutcome(doses[0], doses[1:], {}, neutral=0.0)


def test_the_half_that_picks_is_not_the_half_that_reports() -> None:
    """Strength 1 is best on even prompts, 2 on odd ones: what is reported is 1 on the odd ones."""
    values = {(1.0, 0): 2.0, (1.0, 2): 2.0, (1.0, 1): 0.5, (1.0, 3): 0.5, (2.0, 1): 2.0}
    found = pick_best_strength(rated(values, 4), "judge")
    assert found is not None and found.halves == "prompts"
    assert (found.strength, found.here.value) == (1.0, 2.0)
    assert found.there is not None and (found.there.value, found.there.n) == (0.5, 4)
    assert found.unedited is not None and found.unedited.value == 0
    assert estimate_other_half(rated(values, 4), found, ["judge", "kl"])[1] is None


def test_one_prompt_is_halved_by_seeds_and_one_seed_not_at_all() -> None:
    found = pick_best_strength(rated({(2.0, 0): 1.0, (2.0, 1): 0.5}, 1), "judge")
    assert found is not None and found.halves == "seeds"
    assert found.there is not None and (found.strength, found.there.value) == (2.0, 0.5)
    assert pick_best_strength(rated({}, 1, seeds=1), "judge") is None


def test_a_judged_sweep_is_the_same_sweep_with_a_judge() -> None:
    judge = Judge(LlmServer("s", "http://localhost:1/v1"), "m", "walks", 1.0)
    wanted = {**request(), "judge": judge.to_json()}
    assert parts(wanted) == parts(request()) and judging.base(wanted) == request()
    n = len(judging.texts_of(wanted, sweep().to_json()))
    result = with_ratings(sweep().to_json(), [RequestFailure("timeout", "late")] * n)
    said = judging.lines(
        rated({(1.0, 0): 1.0, (1.0, 1): 1.0}, 2),
        pick_best_strength(rated({(1.0, 0): 1.0}, 2), "judge"),
    )
    assert result["judge"]["failed"] == {"timeout": n} and "had no part in the choice" in said[0]
    assert not math.isnan(float(said[0].split("strength is ")[1].split(",")[0]))
