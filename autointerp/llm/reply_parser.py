"""Strict parser of replies: finds a model's answer and validates it by the JSON schema, refusing
rather than guessing.

The text must contain exactly one JSON object, alone, in one fence, or within prose; or, without any
JSON and for a schema of one field, exactly one line that begins with the field's name. Two of
either are ambiguous and are refused, as are duplicate names, NaN, and whatever the schema does not
allow.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from feature_store.storable_text import make_storable_value

THINKING_PATTERN = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
"""The reasoning that some models write before their answer, between <think> tags."""
MAX_SHOWN_CHARS = 80
JSON_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


class UnreadableReply(ValueError):
    """Exception for a reply that does not answer the question in the form asked for; the message
    says why."""


class ReplyWithoutJson(UnreadableReply):
    """Exception for a reply that contains no complete JSON: a server that follows JSON schemas
    never sends one."""


ReplyForm = Literal["json", "prose", "line"]
"""How an answer was found in a reply: as bare JSON, as JSON within other text, or as a labelled
line."""


class ParsedReply(NamedTuple):
    """The answer that a reply contains, and the form in which it was found."""

    value: Any
    form: ReplyForm


def parse_reply_value(text: str, schema: Mapping[str, Any]) -> Any:
    """Return the one answer of a reply that the JSON schema allows. Raises UnreadableReply."""
    return parse_reply(text, schema).value


def parse_reply(text: str, schema: Mapping[str, Any]) -> ParsedReply:
    """Return the one answer of a reply that the JSON schema allows, and how it was found.

    Raises ReplyWithoutJson for a reply without complete JSON, UnreadableReply for every other reply
    that is no answer.
    """
    text = THINKING_PATTERN.sub("", text).strip()
    found, excerpt = find_json_objects(text), " ".join(text.split())[:MAX_SHOWN_CHARS]
    if len(found) > 1:
        raise UnreadableReply(f"The reply holds {len(found)} JSON objects, not one: {excerpt!r}.")
    if found:
        form: ReplyForm = "json" if text[0] == "{" and text[-1] == "}" else "prose"
        parsed = ParsedReply(found[0], form)
    elif line := find_labelled_line(text, schema):
        parsed = ParsedReply(line, "line")
    else:
        raise ReplyWithoutJson(f"The reply holds no JSON object: {excerpt!r}.")
    # Escapes such as "\\ud83d" decode to text that no file can store.
    parsed = parsed._replace(value=make_storable_value(parsed.value))
    check_schema(parsed.value, schema, "the reply")
    return parsed


def begins_as_prose(text: str) -> bool:
    """Return whether a reply that was cut off began with neither JSON, nor a code fence, nor a
    <think> tag."""
    return text.lstrip()[:1] not in ("", "{", "`", "<")


def find_labelled_line(text: str, schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the answer in the only line `name: value` of a reply, for a JSON schema of one field.

    None where there is no such line, or more than one, or where its value is not of the field's
    type. A list is written as numbers separated by commas or spaces, with or without brackets.
    """
    fields: Mapping[str, Any] = schema.get("properties", {})
    if len(fields) != 1:
        return None
    ((name, part),) = fields.items()
    label = re.compile(rf"^[\s*_\"'`]*{re.escape(name)}[*_\"'`]*\s*[:=]\s*(.*)$", re.I | re.M)
    found = label.findall(text)
    if len(found) != 1:
        return None
    value = parse_line_value(found[0].strip(), part)
    return None if value is None else {name: value}


def parse_line_value(text: str, schema: Mapping[str, Any]) -> Any:
    """Parse the value of a labelled line in a reply as the type of the schema's field; None where
    it has another type."""
    kind = schema.get("type")
    if kind == "string":
        return text.strip("*_\"'` ") or None
    numbers = (
        re.split(r"\s*,\s*|\s+", text.strip("[]* .")) if kind == "array" else [text.strip("* .")]
    )
    if not all(re.fullmatch(r"-?\d{1,6}", number) for number in numbers):
        return None
    if kind == "array" and schema.get("items", {}).get("type") == "integer":
        return [int(number) for number in numbers]
    return int(numbers[0]) if kind == "integer" else None


def find_json_objects(text: str) -> list[dict[str, Any]]:
    """Return the outermost JSON objects of a reply, in order. Raises UnreadableReply for malformed
    JSON."""
    found, at = [], 0
    while (at := text.find("{", at)) >= 0:
        try:
            value, at = STRICT_DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:  # the rest may be a part of the broken JSON
            raise ReplyWithoutJson(
                f"The reply's JSON is malformed or broken off: {error.msg}."
            ) from None
        except RecursionError:
            raise UnreadableReply("The reply's JSON is nested too deep.") from None
        else:
            found.append(value)
    return found


def check_schema(value: Any, schema: Mapping[str, Any], where: str) -> None:
    """Raise UnreadableReply unless a JSON schema allows the value of a reply.

    Supported keywords: type, enum, properties, required, additionalProperties, items, minItems,
    maxItems, minimum, maximum, minLength, maxLength. A boolean is no number.
    """
    kind = schema.get("type")
    if kind is not None and not is_of_json_type(value, kind):
        raise UnreadableReply(f"In {where}, {json.dumps(value)[:MAX_SHOWN_CHARS]} is no {kind}.")
    if "enum" in schema and value not in schema["enum"]:
        raise UnreadableReply(f"In {where}, {value!r} is none of {schema['enum']}.")
    if isinstance(value, dict):
        check_object_schema(value, schema, where)
    elif isinstance(value, list):
        check_array_schema(value, schema, where)
    elif isinstance(value, str):
        if len(value.strip()) < schema.get("minLength", 0):
            raise UnreadableReply(f"In {where}, a text is empty or too short.")
        if len(value) > (most := schema.get("maxLength", len(value))):
            raise UnreadableReply(
                f"In {where}, a text has {len(value)} characters; at most {most} fit."
            )
    elif isinstance(value, int | float) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
    ):
        raise UnreadableReply(f"In {where}, {value} is out of range.")


def find_text_at_max_length(value: Any, schema: Mapping[str, Any]) -> str:
    """Return a text of a parsed reply that is as long as its JSON schema allows, and was perhaps
    cut by the server; an empty text where there is none."""
    if isinstance(value, dict):
        parts = schema.get("properties", {})
        return next(
            filter(None, (find_text_at_max_length(v, parts.get(k, {})) for k, v in value.items())),
            "",
        )
    if isinstance(value, list):
        items = schema.get("items", {})
        return next(filter(None, (find_text_at_max_length(item, items) for item in value)), "")
    if isinstance(value, str) and len(value) >= schema.get("maxLength", len(value) + 1):
        return value
    return ""


def is_of_json_type(value: Any, kind: str) -> bool:
    """Return whether a value of a reply has one of JSON Schema's types."""
    # in Python, bool is a subclass of int
    is_bool = isinstance(value, bool)
    return isinstance(value, JSON_TYPES[kind]) and (is_bool == (kind == "boolean"))


def check_object_schema(value: dict[str, Any], schema: Mapping[str, Any], where: str) -> None:
    """Check the property names of a JSON object in a reply, and their values, by its schema."""
    known: Mapping[str, Any] = schema.get("properties", {})
    if missing := [name for name in schema.get("required", ()) if name not in value]:
        raise UnreadableReply(f"In {where}, {missing[0]!r} is missing.")
    extra = [name for name in value if name not in known]
    if extra and schema.get("additionalProperties", True) is False:
        raise UnreadableReply(f"In {where}, {extra[0]!r} was not asked for.")
    for name, part in value.items():
        check_schema(part, known.get(name, {}), f"{name!r} of {where}")


def check_array_schema(value: list[Any], schema: Mapping[str, Any], where: str) -> None:
    """Check the length of a JSON array in a reply, and all its items, by its schema."""
    least, most = schema.get("minItems", 0), schema.get("maxItems", len(value))
    if not least <= len(value) <= most:
        asked = least if least == most else f"{least} to {most}"
        raise UnreadableReply(f"In {where}, there are {len(value)} items, not {asked}.")
    for item in value:
        check_schema(item, schema.get("items", {}), where)


def reject_duplicate_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object of a reply; raise UnreadableReply where a name occurs twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise UnreadableReply("A name comes twice in the reply's JSON.")
    return found


def reject_json_constant(name: str) -> Any:
    """Raise UnreadableReply for NaN or Infinity in a reply, which are no JSON."""
    raise UnreadableReply(f"The reply's JSON holds {name}.")


STRICT_DECODER = json.JSONDecoder(
    object_pairs_hook=reject_duplicate_names, parse_constant=reject_json_constant
)
