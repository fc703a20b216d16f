"""A server that misbehaves: nothing passes for an answer, and sentences say what would help."""

import time
from pathlib import Path

import pytest

from autointerp.llm import Reply, RequestFailure
from autointerp.llm.retry_policy import RetryPolicy
from feature_store.storable_text import make_storable, replace_lone_surrogates
from tests import openai_server as server
from tests.asking import QUICK, ask, one, question
from tests.openai_server import always, serve, then

GOOD = '{"answers": [1, 0]}'
FINAL = {  # what is not tried again: fault → kind, words of the sentence
    "401": (server.UNAUTHORIZED, "no key", "key_env"),
    "403": (server.Fault(403), "no key", "key_env"),
    "404": (server.NO_MODEL, "not found", "no model 'm'"),
    "no credit": (server.NO_CREDIT, "no credit", "no credit left"),
    "402": (server.Fault(402), "no credit", "no credit left"),
    "400": (server.Fault(400, message="Bad roles."), "rejected", "Bad roles"),
    "redirect": (server.REDIRECT, "not found", "the URL of the server itself"),
    "refusal": (server.REFUSAL, "refusal", "I cannot help"),
    "filtered": (server.Said("", finish="content_filter"), "refusal", "refused"),
    "empty": (server.EMPTY, "empty", "empty"),
    "blank": (server.Said(" \n "), "empty", "empty"),
    "null": (server.Said(None), "empty", "empty"),
    "huge": (server.HUGE, "too large", "characters"),
    "wrong length": (server.Said('{"answers": [1]}'), "unreadable", "1 items, not 2"),
    "wrong value": (server.Said('{"answers": [1, 7]}'), "unreadable", "7 is none of"),
    "two answers": (server.Said(GOOD + GOOD), "unreadable", "2 JSON objects"),
    "long wait": (server.Fault(429, retry_after="3600"), "told to wait", "3,600 s"),
}
ASKED_ONCE_MORE = {  # in another way: reply → kind, words of the sentence if it stays so
    "cut off": (server.CUT_OFF, "cut off", "max_tokens"),
    "no JSON": (server.Said("yes and no"), "unreadable", "no JSON object"),
    "half JSON": (server.Said('{"answers": [1, '), "unreadable", "broken off"),
    "prose without end": (
        server.Said("Sure, " + "very " * 40, finish="length"),
        "repeats",
        "itself",
    ),
}
PASSING = {  # what is tried again
    "429": server.RATE_LIMITED,
    "429 with Retry-After": server.Fault(429, retry_after="0.05"),
    "500": server.BROKEN,
    "503": server.Fault(503),
    "reset": server.RESET,
    "half": server.HALF,
    "garbage": server.GARBAGE,
    "hang": server.HANG,
}


@pytest.mark.parametrize("name", FINAL)
def test_a_final_fault_is_asked_once_and_named(name: str, tmp_path: Path) -> None:
    fault, kind, words = FINAL[name]
    with serve(then([fault], always(GOOD))) as running:
        failed = one(running.base_url, tmp_path / "a.duckdb")
    assert isinstance(failed, RequestFailure)
    assert (failed.kind, running.calls) == (kind, 1)
    assert words in failed.sentence and len(failed.sentence) < 500


@pytest.mark.parametrize("name", ASKED_ONCE_MORE)
def test_what_may_be_answered_in_another_way_is_put_once_more(name: str, tmp_path: Path) -> None:
    """And then it is an answer, or a failure with the reason; the record has both."""
    odd, kind, words = ASKED_ONCE_MORE[name]
    with serve(then([odd], always(GOOD))) as running:
        reply = one(running.base_url, tmp_path / "a.duckdb")
        first, second = running.bodies
        again = one(running.base_url, tmp_path / "a.duckdb")
    assert isinstance(reply, Reply) and first != second
    assert again.cached and again.parsed == reply.parsed and running.calls == 2
    with serve(always(odd)) as running:
        failed = one(running.base_url, tmp_path / "b.duckdb")
    assert isinstance(failed, RequestFailure) and failed.kind == kind and words in failed.sentence
    assert 2 <= running.calls <= 3


@pytest.mark.parametrize("name", PASSING)
def test_a_passing_fault_is_tried_again(name: str, tmp_path: Path) -> None:
    with serve(then([PASSING[name]] * 2, always(GOOD))) as running:
        reply = one(running.base_url, tmp_path / "a.duckdb", timeout_s=0.3)
    assert isinstance(reply, Reply) and reply.parsed == {"answers": [1, 0]}
    assert running.calls == 3


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("429", "rate limited"),
        ("500", "server error"),
        ("reset", "broken reply"),
        ("half", "broken reply"),
        ("garbage", "broken reply"),
        ("hang", "timeout"),
    ],
)
def test_a_fault_that_stays_is_a_failure(name: str, kind: str, tmp_path: Path) -> None:
    """After as many attempts as there are; and the others are asked nevertheless."""
    stays = {"stays": PASSING[name], "good": GOOD}
    with serve(lambda body: stays[server.asked(body)]) as running:
        failed, reply = ask(
            running.base_url,
            tmp_path / "a.duckdb",
            [question("stays"), question("good")],
            timeout_s=0.2,
        )
    assert isinstance(failed, RequestFailure) and failed.kind == kind
    assert isinstance(reply, Reply)
    assert running.calls == 1 + (QUICK.refusals if name == "429" else QUICK.attempts)


def test_nobody_there(tmp_path: Path) -> None:
    with serve(always(GOOD)) as gone:
        pass
    failed = one(gone.base_url, tmp_path / "a.duckdb")
    assert failed.kind == "unreachable" and failed.stops_job and gone.base_url in failed.sentence


def test_a_wrong_path_is_a_wrong_url(tmp_path: Path) -> None:
    with serve(always(GOOD)) as running:
        failed = one(running.base_url.removesuffix("/v1"), tmp_path / "a.duckdb")
    assert failed.kind == "not found" and "most end in /v1" in failed.sentence


def test_an_error_sent_as_a_success_is_none(tmp_path: Path) -> None:
    """Some gateways answer status 200 with an error inside."""
    with serve(always(GOOD)) as running:
        running.wrap = lambda body: {"error": {"message": "upstream is down"}}
        failed = one(running.base_url, tmp_path / "a.duckdb")
    assert failed.kind == "server error" and "upstream is down" in failed.sentence


@pytest.mark.parametrize("odd", [{"choices": []}, {"choices": [{"message": "x"}]}, {}, [], "x", 7])
def test_json_of_another_kind_is_no_reply(odd: object, tmp_path: Path) -> None:
    with serve(always(GOOD)) as running:
        running.wrap = lambda body: odd
        failed = one(running.base_url, tmp_path / "a.duckdb")
    assert failed.kind == "broken reply" and "base URL" in failed.sentence


@pytest.mark.parametrize("odd", ["\ud800 \x00 \u2028 \U0001f600", "'; DROP TABLE outcome; --"])
def test_odd_characters_pass_both_ways(odd: str, tmp_path: Path) -> None:
    """Lone surrogates and NULs cannot be stored; everything else comes back as it was."""
    with serve(always(odd)) as running:
        wanted = question(odd, schema=None)
        fresh, kept = (one(running.base_url, tmp_path / "a.duckdb", wanted) for _ in range(2))
    assert fresh.text == kept.text == make_storable(odd) and kept.cached
    assert server.asked(running.bodies[0]) == replace_lone_surrogates(odd)


@pytest.mark.parametrize("logprob", [float("nan"), 0.7, "x", None])
def test_what_is_no_log_probability_is_no_reply(logprob: object, tmp_path: Path) -> None:
    said = server.logprobs([("1", {"1": -0.1})])
    said[0]["logprob"] = logprob
    with serve(always(server.Said("1", said))) as running:
        failed = one(running.base_url, tmp_path / "a", question(schema=None, logprobs=1))
    assert failed.kind == "broken reply"


@pytest.mark.parametrize("count", [-1, 1e300, "12", True, 10**40, None])
def test_impossible_counts_are_no_counts(count: object, tmp_path: Path) -> None:
    with serve(always(GOOD)) as running:
        usage = {"prompt_tokens": count, "completion_tokens": 3}
        running.wrap = lambda body: body | {"usage": usage}
        reply = one(running.base_url, tmp_path / "a.duckdb")
    assert (reply.tokens_in, reply.tokens_out, reply.cost) == (None, None, None)


def test_a_server_that_asks_to_wait_is_waited_for(tmp_path: Path) -> None:
    wait = server.Fault(429, retry_after="0.6")
    with serve(then([wait], always(GOOD))) as running:
        began = time.monotonic()
        reply = one(
            running.base_url, tmp_path / "a.duckdb", retry_policy=RetryPolicy(first_s=0.001)
        )
    assert isinstance(reply, Reply) and time.monotonic() - began >= 0.6


@pytest.mark.parametrize(
    ("parameter", "note"), [("response_format", "no JSON schema"), ("logprobs", "no log prob")]
)
def test_what_a_server_does_not_take_is_left_out(parameter: str, note: str, tmp_path: Path) -> None:
    """It is said once, and every later request goes without."""
    notes: list[str] = []
    offers = frozenset({"response_format", "logprobs"} - {parameter})
    with serve(always(GOOD), offers=offers) as running:
        wanted = [question(str(i), logprobs=5) for i in range(3)]
        replies = ask(running.base_url, tmp_path / "a", wanted, notes=notes, concurrency=1)
    assert all(isinstance(r, Reply) and r.parsed and r.logprobs is None for r in replies)
    assert running.calls == 4 and len([n for n in notes if note in n]) == 1


NAMED = {  # a property may have the name of a word
    "type": "object",
    "required": ["minItems"],
    "additionalProperties": False,
    "properties": {"minItems": {"type": "string", "minLength": 1}},
}


def words(schema: object) -> set[str]:
    """The words of a JSON schema, at any depth; names of properties are none."""
    if isinstance(schema, list):
        return set().union(*map(words, schema))
    if not isinstance(schema, dict):
        return set()
    parts = {**schema, "properties": [*schema.get("properties", {}).values()]}
    return set(schema).union(*map(words, parts.values()))


def strict(body: server.Body) -> str | server.Fault:
    """A server that takes schemas without limits."""
    found = words(body["response_format"]["json_schema"]["schema"])
    if refused := found & {"minLength", "maxLength", "minItems", "maxItems"}:
        sentence = f"Invalid schema for response_format: {min(refused)!r} is not permitted."
        return server.Fault(400, message=sentence)
    return GOOD


def test_a_server_with_strict_schemas_gets_them_without_limits(tmp_path: Path) -> None:
    """Calls that are under way together learn it once, and the schema itself stays."""
    notes: list[str] = []
    with serve(strict) as running:
        wanted = [question(str(i)) for i in range(3)]
        replies = ask(running.base_url, tmp_path / "a", wanted, notes=notes, concurrency=3)
    assert all(isinstance(reply, Reply) for reply in replies)
    assert len([note for note in notes if "limits" in note]) == len(notes) == 1
    assert all("response_format" in body for body in running.bodies) and running.calls <= 6


@pytest.mark.parametrize("text_limits", [True, False])
def test_the_length_of_a_text_is_sent_where_it_is_taken_and_always_held_against_it(
    text_limits: bool, tmp_path: Path
) -> None:
    with serve(always('{"minItems": " "}')) as running:
        path, wanted = tmp_path / "a.duckdb", question(schema=NAMED)
        failed = one(running.base_url, path, wanted, text_limits=text_limits)
    (body,) = running.bodies
    sent = body["response_format"]["json_schema"]["schema"]
    part = NAMED["properties"]["minItems"] if text_limits else {"type": "string"}
    assert sent == NAMED | {"properties": {"minItems": part}}
    assert isinstance(failed, RequestFailure) and failed.kind == "unreadable"


def test_log_probabilities_come_with_the_tokens(tmp_path: Path) -> None:
    said = server.logprobs([("1", {"1": -0.1, "0": -2.3})])
    with serve(always(server.Said("1", said))) as running:
        path = tmp_path / "a.duckdb"
        wanted = question(schema=None, logprobs=2)
        fresh, kept = one(running.base_url, path, wanted), one(running.base_url, path, wanted)
    assert fresh.logprobs == kept.logprobs == (("1", -0.1, (("1", -0.1), ("0", -2.3))),)
    assert kept.cached and running.calls == 1
    assert running.bodies[0]["top_logprobs"] == 2
