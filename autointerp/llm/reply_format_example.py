"""An answered example of the reply format, for servers that ignore JSON schemas. It is put in front
of a question as an earlier turn of the conversation: small models follow an answered example where
they ignore a description. Without a grammar, SmolLM2-135M gave JSON in 0 of 4 explanations when the
format was described, and in 4 of 4 after an example. The example's answer is never a valid answer
to the question, or is refused as one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from autointerp.llm.requests_and_replies import ChatMessage, ChatRequest
from feature_store.strict_json import dump_json

ANIMAL_LEGS = (4, 2, 6, 8, 10)
ANIMALS = ("a cat", "a bird", "a fly", "a spider", "a crab")
CENTIPEDE_LEGS = 100
"""Number of legs in the example's answer: a number that no question with options allows."""


def add_reply_example(request: ChatRequest) -> ChatRequest:
    """Return a request with a JSON schema, preceded by an answered example of its reply format."""
    assert request.schema is not None
    asked, answer = make_reply_example(request.schema)
    form = dump_json(dict.fromkeys(answer, "..."))
    question = (
        f"First an example of the form, about something else: {asked} Answer with one JSON object "
        f"and nothing else, {form}."
    )
    turns = (ChatMessage("user", question), ChatMessage("assistant", dump_json(answer)))
    system = tuple(m for m in request.messages if m.role == "system")
    rest = tuple(m for m in request.messages if m.role != "system")
    return replace(request, messages=(*system, *turns, *rest))


def make_reply_example(schema: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return an example question and its answer in the reply format of an object schema."""
    pairs = {name: make_field_example(part) for name, part in schema["properties"].items()}
    questions = dict.fromkeys(question for question, _ in pairs.values())
    return " ".join(questions), {name: answer for name, (_, answer) in pairs.items()}


def make_field_example(schema: Mapping[str, Any]) -> tuple[str, Any]:
    """Return an example question and its answer for one field of a reply's JSON schema."""
    kind = schema.get("type")
    if kind == "array":
        return make_list_example(schema)
    if kind == "string":
        if "enum" in schema:
            return "which letter comes last in the alphabet?", "Z"
        return "what are Oslo, Rome and Paris?", "capitals of countries in Europe"
    return "how many legs has a centipede?", CENTIPEDE_LEGS


def make_list_example(schema: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Return an example question and its answer for a list: as many items as the JSON schema asks
    for, where it asks for few."""
    n = schema.get("minItems", 3)
    n = n if 1 <= n <= len(ANIMAL_LEGS) else 3
    if schema.get("items", {}).get("type") == "string":
        names: Sequence[str] = ("Oslo", "Rome", "Paris", "Madrid", "Vienna")[:n]
        return f"name {n} capitals.", list(names)
    return f"how many legs have {', '.join(ANIMALS[:n])}?", list(ANIMAL_LEGS[:n])


def repeats_reply_example(value: Any, schema: Mapping[str, Any]) -> bool:
    """Return whether a reply only repeats the answer of the example."""
    return value == make_reply_example(schema)[1]
