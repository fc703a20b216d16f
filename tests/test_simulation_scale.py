"""Simulation reads one scale a run: expected values or numbers, whatever the tokenizer does."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.jobs import scoring as jobs_scoring
from autointerp.scorers.simulation_scale import EXPECTED_VALUES, NUMBERS, SimulationScale
from feature_store.job_process import hold_job
from feature_store.jobs import Jobs
from feature_store.store import Store
from tests.openai_server import Body, Fault, Said, asked
from tests.scoring import CAT, play, windows
from tests.test_scorers_more import even, tokens

Tokens = Sequence[tuple[str, dict[str, float]]]


def items(body: Body) -> list[str]:
    """The tokens of a window; two tens where the judge is asked how it writes them."""
    return ["ten", "ten"] if "two numbers" in asked(body) else tokens(body)


def reply(numbers: Sequence[int], written: Callable[[int], Tokens]) -> Said:
    """A reply whose numbers are tokens as `written` has them, commas between."""
    content = [x for n in numbers for x in (*written(n), (",", {",": 0.0}))]
    listed = [
        {
            "token": t,
            "logprob": top[t],
            "top_logprobs": [{"token": word, "logprob": p} for word, p in top.items()],
        }
        for t, top in content
    ]
    return Said(json.dumps({"activations": list(numbers)}), logprobs=listed)


def unsure(n: int) -> dict[str, float]:
    """0.8 for a number, the rest for 0."""
    return {str(n): math.log(0.8), "0": math.log(0.2)} if n else {"0": 0.0}


def one_token(n: int) -> Tokens:
    return [(str(n), unsure(n))]


def two_tokens(n: int) -> Tokens:
    """Ten is written as 1 and 0, as by the tokenizers of Llama 2, Gemma and SmolLM."""
    return (
        [("1", {"1": math.log(0.9), "0": math.log(0.1)}), ("0", {"0": 0.0})]
        if n == 10
        else [(str(n), unsure(n))]
    )


def values(found: Any) -> set[float]:
    """All numbers that were read."""
    return {round(x, 3) for window in found.detail["tokens"] if window for x in window}


def judge(word: int, written: Callable[[int], Tokens]) -> Callable[[Body], Said]:
    """Says `word` of each cat and 0 of the rest, but 10 of the cats in windows 0, 3, 6, …"""

    def rule(body: Body) -> Said:
        shown = items(body)
        number = 10 if shown == ["ten", "ten"] or int(shown[0][-1]) % 3 == 0 else word
        return reply([number if t in (CAT, "ten") else 0 for t in shown], written)

    return rule


def test_a_tokenizer_that_cuts_ten_in_two_has_one_scale() -> None:
    """Windows without a 10 would allow expected values (7.2 for a 9), and still have none."""
    found = play("simulation", judge(9, two_tokens), even())
    assert found.detail["scale"] == NUMBERS and values(found) == {0.0, 9.0, 10.0}
    assert found.failed == 0


def test_a_tokenizer_that_writes_ten_in_one_has_expected_values_everywhere() -> None:
    found = play("simulation", judge(9, one_token), even())
    assert found.detail["scale"] == EXPECTED_VALUES and values(found) == {0.0, 7.2, 8.0}


@pytest.mark.parametrize("written", [one_token, two_tokens])
def test_whether_ten_is_one_token_is_asked_where_no_reply_tells(written) -> None:
    """No window has a 10: the judge is asked for two of them, once for the run."""
    seen: list[int] = []

    def rule(body: Body) -> Said:
        shown = items(body)
        seen.append(shown == ["ten", "ten"])
        return reply([10 if t == "ten" else 9 * (t == CAT) for t in shown], written)

    found = play("simulation", rule, even())
    assert sum(seen) == 1
    assert found.detail["scale"] == (EXPECTED_VALUES if written is one_token else NUMBERS)


def test_candidates_that_leave_numbers_open_are_no_scale_of_their_own() -> None:
    """Before the grammar, letters were as likely as the number that was said."""

    def open_(n: int) -> Tokens:
        return [(str(n), {str(n): math.log(0.3), "a": math.log(0.3), "b": math.log(0.3)})]

    found = play("simulation", judge(9, open_), even())
    assert found.detail["scale"] == NUMBERS and found.failed == 0


def test_a_window_that_does_not_allow_the_scale_of_its_run_fails() -> None:
    """Read in the other scale it would be worth more or less than the same said elsewhere."""
    counted: list[int] = []

    def rule(body: Body) -> Said:
        counted.append(1)
        written = one_token if len(counted) % 4 else lambda n: [(f"{n} ", {f"{n} ": -3.0})]
        return judge(9, written)(body)

    found = play("simulation", rule, even())
    assert found.detail["scale"] == EXPECTED_VALUES and values(found) == {0.0, 7.2, 8.0}
    assert {row.failed for row in found.judged} >= {"", "no probabilities"}
    assert 0 < found.failed < len(found.judged)


def test_a_failed_first_reply_decides_nothing() -> None:
    left = [Fault(400, message="No."), Fault(400, message="No.")]

    def rule(body: Body) -> Said | Fault:
        return left.pop() if left else judge(9, one_token)(body)

    found = play("simulation", rule, even())
    assert found.detail["scale"] == EXPECTED_VALUES and found.failed == 2
    nothing = play("simulation", lambda body: Fault(400, message="No."), even())
    assert nothing.detail["scale"] is None and nothing.failed == len(nothing.judged)


def test_the_scale_is_of_the_run_and_outlives_its_process(tmp_path) -> None:
    """Two features, and the job taken up again: decided once, and kept with its reason."""
    job = Jobs(Store.create(tmp_path / "store").path).create("score", {}, "a test")
    with hold_job(job) as work:
        first = jobs_scoring.scale_of_run(work)
        play("simulation", judge(9, two_tokens), even(), scale=first)
        again = jobs_scoring.scale_of_run(work)
    assert first.decided == again.decided == NUMBERS
    assert (
        "tokens" in jobs_scoring.read_scale(job)["reason"] and "simulation reads" in job.read_log()
    )
    # another tokenizer, or a window without a ten, no longer decides
    found = play("simulation", judge(9, one_token), even(), scale=again)
    assert found.detail["scale"] == NUMBERS and values(found) == {0.0, 9.0, 10.0}


@pytest.mark.parametrize("scale", [EXPECTED_VALUES, NUMBERS])
def test_values_are_proportional_within_a_run(scale) -> None:
    """What is said of a cat is one value in all windows, on either scale."""
    found = play(
        "simulation",
        lambda b: reply([9 * (t == CAT) for t in items(b)], one_token),
        replace(windows(), hard=()),
        scale=SimulationScale(scale),
    )
    assert len(values(found)) == 2 and np.isfinite(list(values(found))).all()
