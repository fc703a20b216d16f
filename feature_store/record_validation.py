"""The one door for records in files that people or other programs may have written or changed.

A record is a pydantic model. JSON is taken literally: a text is no number, `true` is no number, NaN
is refused, 16.0 is the whole number 16. The first thing that is wrong is said in one sentence that
names the file, the key and what would work.
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
"""No count, width or index is larger."""
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
"""pydantic's kind of error -> what the value must be, where its own words speak of Python."""


def refuse_value(wanted: str) -> PydanticCustomError:
    """Return the error for a validator to raise; `wanted` says what the value must be."""
    return PydanticCustomError("refused", "{wanted}", {"wanted": wanted})


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
"""A whole number from 0; 16.0 is 16."""
Count = Annotated[int, BeforeValidator(_read_whole_number), Field(ge=1, le=LARGEST_INDEX)]
"""A whole number from 1; 16.0 is 16."""
Real = Annotated[float, BeforeValidator(_read_number), Field(allow_inf_nan=False)]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict()]
Name = Annotated[str, Strict(), Field(min_length=1, max_length=1000)]
Timestamp = Annotated[datetime, BeforeValidator(_read_moment)]
"""A time in ISO 8601; in UTC where it says no zone."""
JsonObject = dict[str, Any]


class ForeignRecord(BaseModel):
    """A record as a file has it; keys that are not named are passed over."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    @classmethod
    def read(cls, content: object, where: str) -> Self:
        """Return the validated record; InputError that names `where` and the first wrong key."""
        try:
            return cls.model_validate(content)
        except ValidationError as bad:
            raise InputError(f"{describe_first_error(bad, where)}.") from None

    @classmethod
    def read_file(cls, path: Path) -> Self:
        """Return the record of a JSON file; InputError for a file that cannot be read, too."""
        return cls.read(read_object(path), str(path))


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON file's object; InputError for what is none, OSError for what is not there."""
    try:
        content = parse_json(path.read_bytes(), f"{path} cannot be read as JSON")
    except IsADirectoryError as bad:
        raise InputError(f"{path} is a folder; a JSON file is expected there.") from bad
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds {show_value(content)}: it must be a JSON object.")
    return dict(content)


def describe_first_error(bad: ValidationError, where: str) -> str:
    """Return what is wrong first, with file, key and value, and what the value must be."""
    error = bad.errors(include_url=False)[0]
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{where} has no {key}"
    said = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    said = EXPECTED.get(error["type"], said)
    at = (
        f" has {key} = {show_value(error['input'])}" if key else f" is {show_value(error['input'])}"
    )
    return f"{where}{at}: it must be {said}"


def show_value(value: object) -> str:
    """Return a value as JSON, cut to a length that fits a sentence."""
    try:
        text = dump_json(null_nonfinite(value)) if not isinstance(value, float) else str(value)
    except JsonError:
        text = type(value).__name__
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."
