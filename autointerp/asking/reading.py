"""A reply's JSON, read strictly: refused rather than guessed.

The text must hold exactly one JSON object, alone, in one fence, or within prose. Two of them are a
choice that nobody may make for the model, so they are refused; so are duplicate names, NaN, and
whatever the schema does not allow.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from feature_store.storable_text import make_storable_value

THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
"""What some models think aloud before they answer."""
SHOWN = 80
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,),
    "number": (int, float), "boolean": (bool,), "null": (type(None),),
}  # fmt: skip


class Unreadable(ValueError):
    """A reply that does not answer what was asked; the message says why."""


def read(text: str, schema: Mapping[str, Any]) -> Any:
    """The one JSON object of a reply that the schema allows. Raises Unreadable."""
    found = objects(THOUGHT.sub("", text))
    if len(found) != 1:
        said = " ".join(text.split())[:SHOWN]
        count = "no JSON object" if not found else f"{len(found)} JSON objects, not one"
        raise Unreadable(f"The reply holds {count}: {said!r}.")
    value = make_storable_value(found[0])  # escapes such as "\\ud83d" hold what no file takes
    check(value, schema, "the reply")
    return value


def objects(text: str) -> list[dict[str, Any]]:
    """The outermost JSON objects of a text, in order. Raises Unreadable for doubtful ones."""
    found, at = [], 0
    while (at := text.find("{", at)) >= 0:
        try:
            value, at = DECODER.raw_decode(text, at)
        except json.JSONDecodeError as bad:  # what follows may be a part of what broke off
            raise Unreadable(f"The reply's JSON is malformed or broken off: {bad.msg}.") from None
        except RecursionError:
            raise Unreadable("The reply's JSON is nested too deep.") from None
        else:
            found.append(value)
    return found


def check(value: Any, schema: Mapping[str, Any], where: str) -> None:
    """Raises Unreadable unless a JSON schema allows a value.

    Of JSON Schema: type, enum, properties, required, additionalProperties, items, minItems,
    maxItems, minimum, maximum, minLength. A boolean is no number.
    """
    kind = schema.get("type")
    if kind is not None and not of_type(value, kind):
        raise Unreadable(f"In {where}, {json.dumps(value)[:SHOWN]} is no {kind}.")
    if "enum" in schema and value not in schema["enum"]:
        raise Unreadable(f"In {where}, {value!r} is none of {schema['enum']}.")
    if isinstance(value, dict):
        check_object(value, schema, where)
    elif isinstance(value, list):
        check_array(value, schema, where)
    elif isinstance(value, str):
        if len(value.strip()) < schema.get("minLength", 0):
            raise Unreadable(f"In {where}, a text is empty or too short.")
    elif isinstance(value, int | float) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
    ):
        raise Unreadable(f"In {where}, {value} is out of range.")


def of_type(value: Any, kind: str) -> bool:
    """Whether a value is of one of JSON Schema's types."""
    is_bool = isinstance(value, bool)
    return isinstance(value, TYPES[kind]) and (is_bool == (kind == "boolean"))


def check_object(value: dict[str, Any], schema: Mapping[str, Any], where: str) -> None:
    """Names there and allowed, and what they hold."""
    known: Mapping[str, Any] = schema.get("properties", {})
    if missing := [name for name in schema.get("required", ()) if name not in value]:
        raise Unreadable(f"In {where}, {missing[0]!r} is missing.")
    extra = [name for name in value if name not in known]
    if extra and schema.get("additionalProperties", True) is False:
        raise Unreadable(f"In {where}, {extra[0]!r} was not asked for.")
    for name, part in value.items():
        check(part, known.get(name, {}), f"{name!r} of {where}")


def check_array(value: list[Any], schema: Mapping[str, Any], where: str) -> None:
    """The length, and every item."""
    least, most = schema.get("minItems", 0), schema.get("maxItems", len(value))
    if not least <= len(value) <= most:
        asked = least if least == most else f"{least} to {most}"
        raise Unreadable(f"In {where}, there are {len(value)} items, not {asked}.")
    for item in value:
        check(item, schema.get("items", {}), where)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, refused where a name comes twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Unreadable("A name comes twice in the reply's JSON.")
    return found


def no_constant(name: str) -> Any:
    """JSON knows no NaN and no Infinity."""
    raise Unreadable(f"The reply's JSON holds {name}.")


DECODER = json.JSONDecoder(object_pairs_hook=once, parse_constant=no_constant)
