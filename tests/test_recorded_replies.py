"""Replies of two real servers, word for word: llama.cpp and `transformers serve`, SmolLM2-135M.

The files in tests/replies hold requests as this package sends them and what came back; paths of the
machine they were recorded on are left out, and llama.cpp's chat template.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from autointerp.explainers.explanation_request import EXPLANATION_SCHEMA, MAX_EXPLANATION_CHARS
from autointerp.llm import Reply, RequestFailure
from autointerp.llm.answer_probabilities import read_answer_shares
from autointerp.llm.reply_parser import parse_reply
from autointerp.llm.server_facts import ServerFacts, read_server_facts
from autointerp.llm.text_repetition import repeats_itself
from tests.asking import ask, one, question
from tests.openai_server import Body, Recorded, serve

FOLDER = Path(__file__).parent / "replies"
SERVERS = ("llamacpp", "transformers")
MOST_BYTES = 50_000
DIGITS = {
    "type": "object",
    "required": ["answers"],
    "additionalProperties": False,
    "properties": {
        "answers": {
            "type": "array",
            "items": {"type": "integer", "enum": [1, 0]},
            "minItems": 5,
            "maxItems": 5,
        }
    },
}


def recorded(name: str) -> dict[str, Recorded]:
    entries = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return {entry["name"]: Recorded(entry["status"], entry["reply"]) for entry in entries}


LLAMA, TRANSFORMERS = map(recorded, SERVERS)


@pytest.mark.parametrize("name", SERVERS)
def test_what_is_recorded_is_small_and_names_no_machine(name: str) -> None:
    text = (FOLDER / f"{name}.json").read_text("utf-8")
    assert len(text) <= MOST_BYTES
    assert not any(word in text for word in ("/tmp", "/home", "/root", "Bearer", "api_key"))


def facts(of: dict[str, Recorded]) -> ServerFacts:
    async def get(url: str, with_key: bool) -> Any:
        found = of.get({"/v1/models": "models", "/props": "props"}[url.removeprefix("http://a")])
        return found.reply if found and found.status == 200 else None

    return asyncio.run(read_server_facts(get, "http://a/v1", "m"))


def test_llamacpp_says_its_context_and_slots() -> None:
    """4,096 tokens for two slots: 2,048 for a question."""
    found = facts(LLAMA)
    assert (found.software, found.context_tokens, found.slots) == ("llamacpp", 2048, 2)


def test_transformers_serve_fails_where_it_should_list_models() -> None:
    assert TRANSFORMERS["models"].status == 500 and facts(TRANSFORMERS) == ServerFacts()


def test_probabilities_from_before_the_grammar_are_never_certain(tmp_path: Path) -> None:
    with serve(lambda body: LLAMA["digits"]) as running:
        wanted = question(schema=DIGITS, logprobs=20)
        reply = one(running.base_url, tmp_path / "a.duckdb", wanted)
    assert reply.form == "json"
    found = read_answer_shares(reply, ("0", "1"))
    assert found is not None and len(found) == 5
    assert all(0.0 < p < 1.0 for shares in found if shares for p in shares.values())


@pytest.mark.parametrize("name", ["loop", "bounded loop"])
def test_a_loop_of_llamacpp_is_known_and_asked_with_a_penalty(name: str, tmp_path: Path) -> None:
    def rule(body: Body) -> Recorded:
        return LLAMA["penalty" if body.get("frequency_penalty") else name]

    with serve(rule) as running:
        reply = one(running.base_url, tmp_path / "a.duckdb", question(schema=EXPLANATION_SCHEMA))
        assert isinstance(reply, Reply) and running.calls == 2
    assert 0 < len(reply.parsed["explanation"]) < MAX_EXPLANATION_CHARS
    assert not repeats_itself(reply.parsed["explanation"])
    with serve(lambda body: LLAMA[name]) as running:
        failed = one(running.base_url, tmp_path / "b.duckdb", question(schema=EXPLANATION_SCHEMA))
    assert failed.kind == "repeats"


def test_llamacpp_ends_a_text_at_the_bound_of_its_schema() -> None:
    text = LLAMA["bounded loop"].reply["choices"][0]["message"]["content"]
    assert len(parse_reply(text, EXPLANATION_SCHEMA).value["explanation"]) == MAX_EXPLANATION_CHARS


def test_llamacpp_refuses_what_is_too_long(tmp_path: Path) -> None:
    with serve(lambda body: LLAMA["too long"]) as running:
        failed = one(running.base_url, tmp_path / "a.duckdb")
    assert isinstance(failed, RequestFailure) and failed.kind == "context size"
    assert "3031 tokens" in failed.sentence and running.calls == 1


def test_transformers_serve_ignores_schemas_and_is_asked_by_example(tmp_path: Path) -> None:
    notes: list[str] = []

    def rule(body: Body) -> Recorded | str:
        by_example = len(body["messages"]) > 1
        return '{"answers": [1, 0, 1, 0, 0]}' if by_example else TRANSFORMERS["ignored schema"]

    with serve(rule) as running:
        wanted = [question(str(i), schema=DIGITS, logprobs=20) for i in range(4)]
        path = tmp_path / "a.duckdb"
        replies = ask(running.base_url, path, wanted, notes=notes, concurrency=1)
    assert all(isinstance(reply, Reply) and reply.logprobs is None for reply in replies)
    assert running.calls == 2 + 2 + 1 + 1
    assert len([note for note in notes if "does not follow JSON schemas" in note]) == 1


def test_a_described_form_may_be_enough_for_transformers_serve(tmp_path: Path) -> None:
    with serve(lambda body: TRANSFORMERS["as described"]) as running:
        reply = one(running.base_url, tmp_path / "a.duckdb", question(schema=EXPLANATION_SCHEMA))
    assert reply.form == "json" and running.calls == 1 and reply.tokens_in == 634


def test_a_loop_of_transformers_serve_is_known(tmp_path: Path) -> None:
    with serve(lambda body: TRANSFORMERS["by example"]) as running:
        failed = one(running.base_url, tmp_path / "a.duckdb", question(schema=EXPLANATION_SCHEMA))
    assert failed.kind == "repeats" and running.calls == 2


def test_a_field_that_transformers_serve_does_not_know_is_left_out(tmp_path: Path) -> None:
    def rule(body: Body) -> Recorded:
        if "frequency_penalty" in body:
            said = TRANSFORMERS["unknown field"].reply["detail"]
            reply = {"detail": said.replace("repeat_penalty", "frequency_penalty")}
            return Recorded(TRANSFORMERS["unknown field"].status, reply)
        return LLAMA["penalty"]

    with serve(rule) as running:
        wanted = question(schema=EXPLANATION_SCHEMA, penalty=0.5)
        reply = one(running.base_url, tmp_path / "a.duckdb", wanted)
    assert isinstance(reply, Reply) and running.calls == 2


def test_a_model_that_transformers_serve_cannot_load_is_an_error_of_the_server(
    tmp_path: Path,
) -> None:
    with serve(lambda body: TRANSFORMERS["unknown model"]) as running:
        failed = one(running.base_url, tmp_path / "a.duckdb")
    assert failed.kind == "server error" and "Internal Server Error" in failed.sentence
