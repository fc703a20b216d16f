"""The form of replies: schemas that are ignored, labelled lines, loops, and who is asked again."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.explainers.explanation_request import EXPLANATION_SCHEMA, MAX_EXPLANATION_CHARS
from autointerp.llm import Reply
from autointerp.llm.reply_format_example import (
    add_reply_example,
    make_reply_example,
    repeats_reply_example,
)
from autointerp.llm.reply_parser import (
    ReplyWithoutJson,
    UnreadableReply,
    check_schema,
    parse_reply,
    parse_reply_value,
)
from autointerp.llm.text_repetition import repeats_itself
from autointerp.scorers.judge_requests import digits_schema, object_schema
from tests import openai_server as server
from tests.asking import ANSWERS, ask, one, question
from tests.openai_server import Body, Fault, Said, always, serve

GOOD = '{"answers": [1, 0]}'
SENTENCE = {"explanation": "words about the weather"}


@pytest.mark.parametrize(
    ("text", "schema", "value", "how"),
    [
        (GOOD, ANSWERS, [1, 0], "json"),
        (f"Sure! {GOOD}", ANSWERS, [1, 0], "prose"),
        (f"```json\n{GOOD}\n```", ANSWERS, [1, 0], "prose"),
        ("answers: 1, 0", ANSWERS, [1, 0], "line"),
        ("Here you are.\n**Answers**: [1 0]\nDone.", ANSWERS, [1, 0], "line"),
        ('explanation: "rain"', EXPLANATION_SCHEMA, "rain", "line"),
        ("Explanation = names of towns", EXPLANATION_SCHEMA, "names of towns", "line"),
    ],
)
def test_the_one_answer_is_found_and_how_is_told(
    text: str, schema: dict, value: object, how: str
) -> None:
    found = parse_reply(text, schema)
    assert list(found.value.values()) == [value] and found.form == how


@pytest.mark.parametrize(
    "text",
    [
        "answers: 1, 0\nanswers: 0, 1",
        "answers: 1",
        "answers: 1, 7",
        "answers: yes, no",
        "answers:",
        "answers: 1, 0 {",
        "answers: 1.0, 0",
        "the answers: 1, 0",
        "1, 0",
    ],
)
def test_a_doubtful_line_is_refused(text: str) -> None:
    with pytest.raises(UnreadableReply):
        parse_reply_value(text, ANSWERS)


@given(st.text())
def test_a_labelled_line_is_read_or_refused(text: str) -> None:
    try:
        found = parse_reply(f"answers: {text}", ANSWERS)
    except UnreadableReply:
        return
    check_schema(found.value, ANSWERS, "it")


SCHEMAS: list[dict[str, Any]] = [
    EXPLANATION_SCHEMA,
    ANSWERS,
    digits_schema(5, (1, 0)),
    digits_schema(1, (0, 1)),
    object_schema("intruder", {"type": "integer", "minimum": 1, "maximum": 5}),
    object_schema("answer", {"type": "string", "enum": ["A", "B"]}),
    object_schema(
        "activations",
        {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 10},
            "minItems": 32,
            "maxItems": 32,
        },
    ),
    object_schema(
        "texts", {"type": "array", "items": {"type": "string"}, "minItems": 5, "maxItems": 5}
    ),
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_an_example_of_the_form_is_no_answer_to_the_question(schema: dict[str, Any]) -> None:
    """A model that repeats it has not answered: it breaks the schema, or is known."""
    answer = make_reply_example(schema)[1]
    try:
        check_schema(answer, schema, "it")
    except UnreadableReply:
        return
    assert repeats_reply_example(answer, schema)


def prose_server(body: Body) -> str:
    """Ignores `response_format`, as `transformers serve` does; follows an answered example."""
    if body["messages"][0]["content"].startswith("First an example"):
        return GOOD
    return "The first text is about a cat, and the second is not."


def test_a_server_that_ignores_schemas_is_noticed_and_asked_by_example(tmp_path: Path) -> None:
    """No question is lost, it is said once, and from the third on one call each is enough."""
    notes: list[str] = []
    with serve(prose_server) as running:
        wanted = [question(str(i)) for i in range(6)]
        path = tmp_path / "a.duckdb"
        replies = ask(running.base_url, path, wanted, notes=notes, concurrency=1)
        calls = running.calls
        again = ask(running.base_url, path, wanted, concurrency=1)
        assert running.calls == calls
    assert all(isinstance(reply, Reply) for reply in (*replies, *again))
    assert len([note for note in notes if "does not follow JSON schemas" in note]) == 1
    assert calls == 2 * 2 + 4
    assert all(reply.cached for reply in again)


def test_one_odd_reply_of_a_server_that_keeps_to_schemas_is_not_ignoring_them(
    tmp_path: Path,
) -> None:
    notes: list[str] = []

    def rule(body: Body) -> str:
        return "prose" if server.asked(body) in ("3", "4", "5") else GOOD

    with serve(rule) as running:
        wanted = [question(str(i)) for i in range(8)]
        ask(running.base_url, tmp_path / "a.duckdb", wanted, notes=notes, concurrency=1)
    assert not any("schemas" in note for note in notes)


def test_a_repeated_example_is_no_answer(tmp_path: Path) -> None:
    echo = json.dumps(make_reply_example(EXPLANATION_SCHEMA)[1])

    def rule(body: Body) -> str:
        return echo if len(body["messages"]) > 1 else "prose"

    with serve(rule) as running:
        failed = one(running.base_url, tmp_path / "a.duckdb", question(schema=EXPLANATION_SCHEMA))
    assert failed.kind == "unreadable" and "example" in failed.sentence


def test_log_probabilities_that_are_left_out_in_silence_are_not_asked_for_for_ever(
    tmp_path: Path,
) -> None:
    """`transformers serve` answers 200 and gives none; and it is said how answers were found."""
    notes: list[str] = []
    with serve(always(f"Here: {GOOD}")) as running:
        wanted = [question(str(i), logprobs=5) for i in range(5)]
        ask(running.base_url, tmp_path / "a.duckdb", wanted, notes=notes, concurrency=1)
    assert ["logprobs" in body for body in running.bodies] == [True, True, False, False, False]
    assert len([note for note in notes if "no log probabilities" in note]) == 1
    assert notes[-1].endswith("answers were found as 5 JSON within other text.")


LOOP = '{"explanation": "' + "It is a symbol of the cat's life and the cycle of life. " * 6
TEXTS = {  # as SmolLM2-135M wrote them
    "a loop": (LOOP, True),
    "a loop that changes": (
        "The feature fires on texts that are not only the most specific tokens but also the most "
        "general tokens that are not only the most specific tokens but also the most general "
        "tokens that are not only the most general tokens but also the most general tokens",
        True,
    ),
    "a loop without spaces": ("the ones that are not" + "onlythe" * 40, True),
    "few words": ("not only the most specific", False),
    "a sentence": (
        "The feature fires on texts that are not only the same token but also the most specific "
        "topic that covers all of the texts.",
        False,
    ),
    "a list": ("one of: cat, dog, cow, horse, sheep, goat, hen, duck, goose, pig, bee, ant", False),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_go_round_in_circles(name: str) -> None:
    text, loops = TEXTS[name]
    assert repeats_itself(text) == loops


@pytest.mark.parametrize(
    "loop",
    [
        Said(LOOP, finish="length"),
        Said(json.dumps({"explanation": (LOOP[17:] * 2)[:MAX_EXPLANATION_CHARS]})),
    ],
)
def test_a_loop_is_asked_once_more_with_a_penalty(loop: Said, tmp_path: Path) -> None:
    """Cut off at the limit of tokens, or ended by the server at the bound of the text."""

    def rule(body: Body) -> str | Said:
        return json.dumps(SENTENCE) if body.get("frequency_penalty") else loop

    with serve(rule) as running:
        reply = one(running.base_url, tmp_path / "a.duckdb", question(schema=EXPLANATION_SCHEMA))
        assert reply.parsed == SENTENCE and running.calls == 2 and reply.key
    with serve(always(loop)) as running:
        failed = one(running.base_url, tmp_path / "b.duckdb", question(schema=EXPLANATION_SCHEMA))
        assert running.calls == 2
    assert failed.kind == "repeats" and "With a penalty on repetition" in failed.sentence


def test_a_server_without_penalties_is_asked_at_a_higher_temperature(tmp_path: Path) -> None:
    """`transformers serve` answers 422 to a field that it does not know."""

    def rule(body: Body) -> str | Said | Fault:
        if "frequency_penalty" in body:
            return Fault(422, message="Unexpected fields in the request: {'frequency_penalty'}")
        return json.dumps(SENTENCE) if body["temperature"] else Said(LOOP, finish="length")

    with serve(rule) as running:
        reply = one(running.base_url, tmp_path / "a.duckdb", question(schema=EXPLANATION_SCHEMA))
    assert reply.parsed == SENTENCE and running.calls == 3


@pytest.mark.parametrize(
    ("message", "most"),
    [
        ("Invalid value for 'top_logprobs': integer above maximum value. Expected at most 5.", 5),
        ("Requested sample logprobs of 20, which is greater than max allowed: 5", 5),
        ("top_logprobs must be less than or equal to 8", 8),
    ],
)
def test_the_number_of_candidates_is_learnt_from_a_refusal(
    message: str, most: int, tmp_path: Path
) -> None:
    def rule(body: Body) -> str | Fault:
        refused = body.get("top_logprobs", 0) > most
        return Fault(400, message=message) if refused else GOOD

    with serve(rule) as running:
        reply = one(running.base_url, tmp_path / "a.duckdb", question(logprobs=20))
    assert isinstance(reply, Reply)
    assert [body.get("top_logprobs") for body in running.bodies] == [20, most]


def test_what_is_no_json_is_told_from_json_of_another_kind() -> None:
    with pytest.raises(ReplyWithoutJson):
        parse_reply_value("yes", ANSWERS)
    with pytest.raises(UnreadableReply) as why:
        parse_reply_value('{"answers": [1]}', ANSWERS)
    assert not isinstance(why.value, ReplyWithoutJson)
    assert add_reply_example(question()).messages[-1] == question().messages[-1]
