"""Record validation: pydantic models and types that check the JSON of files which people or other
programs may have written or changed.

JSON is taken literally: a text is not a number, `true` is not a number, NaN is refused, 16.0 is the
integer 16. The first wrong value is reported in one sentence that names the file, the key and what
would work.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError
from pydantic_core import PydanticCustomError

from feature_store.errors import InputError
from feature_store.strict_json import JsonError, dump_json, null_nonfinite, parse_json

LARGEST_INDEX = 2**31 - 1
"""Largest count, width or index that a validated record may hold."""
SHOWN_CHARACTERS = 60
EXPECTED = {
    "model_type": "a JSON object",
    "dict_type": "a JSON object",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "bool_type": "true or false",
    "finite_number": "a finite number",
}
"""pydantic's error type -> description of the expected value, where pydantic's own message is
about Python."""


def refuse_value(expected: str) -> PydanticCustomError:
    """Return the error that a validator of a record's field raises to refuse a value; `expected`
    says what the value must be."""
    return PydanticCustomError("refused", "{wanted}", {"wanted": expected})


def _read_number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse_value("a number")
    return value


def _read_whole_number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse_value("a whole number")
    if isinstance(value, float):
        if not value.is_integer():
            raise refuse_value("a whole number")
        return int(value)
    return value


def _read_moment(value: object) -> object:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None:
        raise refuse_value("a time such as 2026-01-31T12:00:00+00:00")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


WholeNumber = Annotated[int, BeforeValidator(_read_whole_number), Field(ge=0, le=LARGEST_INDEX)]
"""Validated integer of at least 0; 16.0 is read as 16."""
Count = Annotated[int, BeforeValidator(_read_whole_number), Field(ge=1, le=LARGEST_INDEX)]
"""Validated integer of at least 1; 16.0 is read as 16."""
Real = Annotated[float, BeforeValidator(_read_number), Field(allow_inf_nan=False)]
"""Validated finite number; a boolean is not a number."""
Flag = Annotated[bool, Strict()]
"""Validated boolean, `true` or `false`."""
Text = Annotated[str, Strict()]
"""Validated text, which may be empty."""
Name = Annotated[str, Strict(), Field(min_length=1, max_length=1000)]
"""Validated text that is not empty, at most 1000 characters long."""
Timestamp = Annotated[datetime, BeforeValidator(_read_moment)]
"""Validated time in ISO 8601; taken as UTC if it names no time zone."""
JsonObject = dict[str, Any]


class ForeignRecord(BaseModel):
    """Base class of records validated from JSON files; keys that the record does not declare are
    ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    @classmethod
    def read(cls, content: object, where: str) -> Self:
        """Validate a parsed JSON value as this record; InputError names `where` and the first
        wrong key."""
        try:
            return cls.model_validate(content)
        except ValidationError as bad:
            raise InputError(f"{describe_first_error(bad, where)}.") from None

    @classmethod
    def read_file(cls, path: Path) -> Self:
        """Read and validate the record in a JSON file; InputError if the file cannot be parsed
        or validated."""
        return cls.read(read_object(path), str(path))


def read_object(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file; InputError if it holds something else, OSError if it is
    missing."""
    try:
        content = parse_json(path.read_bytes(), f"{path} cannot be read as JSON")
    except IsADirectoryError as bad:
        raise InputError(f"{path} is a folder; a JSON file is expected there.") from bad
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds {show_value(content)}: it must be a JSON object.")
    return dict(content)


def describe_first_error(bad: ValidationError, where: str) -> str:
    """Return a sentence about the first validation error of a record: file, key, value and what the
    value must be."""
    error = bad.errors(include_url=False)[0]
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{where} has no {key}"
    expected = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    expected = EXPECTED.get(error["type"], expected)
    where_found = (
        f" has {key} = {show_value(error['input'])}" if key else f" is {show_value(error['input'])}"
    )
    return f"{where}{where_found}: it must be {expected}"


def show_value(value: object) -> str:
    """Return a value as JSON, shortened to fit into an error message."""
    try:
        text = dump_json(null_nonfinite(value)) if not isinstance(value, float) else str(value)
    except JsonError:
        text = type(value).__name__
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."
