"""The one door for configuration files that other tools wrote: types, ranges and presence.

A foreign config is a pydantic model. JSON is taken literally: a string is no number, `true` is no
number, 16.0 is the whole number 16, `null` is the same as an absent key, and NaN is refused. The
first thing that is wrong is said in one sentence that names the file and the key; no value that
decides numbers is ever filled in by a library's default.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError
from pydantic_core import PydanticCustomError

from feature_store.errors import InputError, pick_by_name
from feature_store.strict_json import dump_json

T = TypeVar("T")

LARGEST = 2**31 - 1
"""No width, count or index of a dictionary is larger."""
SHOWN_CHARACTERS = 60
TYPO_SIMILARITY = 0.9
"""How alike two words are of which one is the other mistyped."""
EXPECTED_VALUES = {
    "model_type": "a JSON object",
    "dict_type": "a JSON object",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "bool_type": "true or false",
}
"""pydantic's kind of error -> what the value must be, where its own words speak of Python."""


def refusal_error(said: str) -> PydanticCustomError:
    """Return the error for a validator to raise: `FILE cannot be used: SAID.`"""
    return PydanticCustomError("refused", "{said}", {"said": said})


def _read_number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refusal_error("it must be a number")
    return value


def _read_whole_number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refusal_error("it must be a whole number")
    if isinstance(value, float):
        if not value.is_integer():
            raise refusal_error("it must be a whole number")
        return int(value)
    return value


WholeNumber = Annotated[int, BeforeValidator(_read_whole_number), Field(ge=0, le=LARGEST)]
"""A whole number from 0; 16.0 is 16."""
Count = Annotated[int, BeforeValidator(_read_whole_number), Field(ge=1, le=LARGEST)]
"""A whole number from 1; 16.0 is 16."""
Real = Annotated[float, BeforeValidator(_read_number), Field(allow_inf_nan=False)]
Flag = Annotated[bool, Strict()]
Name = Annotated[str, Strict(), Field(min_length=1, max_length=1000)]
Text = Annotated[str, Strict(), Field(max_length=1000)]
"""A text that may be empty, which is the same as absent."""
Table = dict[str, Any]


class ForeignConfig(BaseModel):
    """A configuration as another tool's file has it; keys that are not named here are kept."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    @classmethod
    def read(cls, content: Mapping[str, object], where: str) -> Self:
        """Return the validated config; InputError with one sentence for the first thing wrong.

        `where` is the file's path, with which the sentence begins.
        """
        present = {key: value for key, value in content.items() if value is not None}
        try:
            return cls.model_validate(present)
        except ValidationError as bad:
            raise InputError(_describe_first_error(bad, where)) from None


def _describe_first_error(bad: ValidationError, where: str) -> str:
    """Return one sentence that names file, key and value, and says what the value must be."""
    error = bad.errors(include_url=False)[0]
    key = ".".join(str(part) for part in error["loc"]).removeprefix("metadata.")
    if error["type"] == "missing":
        return f"{where} has no {key}, which the dictionary cannot be read without."
    said = error["msg"].removeprefix("Input should be ").removeprefix("it must be ")
    said = EXPECTED_VALUES.get(error["type"], said)
    if not key:
        return f"{where} cannot be used: {said}."
    return f"{where} has {key} = {show_value(error['input'])}: it must be {said}."


def show_value(value: object) -> str:
    """Return a value as JSON, cut to a length that fits a sentence."""
    try:
        text = dump_json(value)
    except InputError:  # a number that is not finite
        text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def pick_kind(where: str, kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return the table's entry of that name, or an InputError that begins with the file.

    A near miss is offered only for a slip of the finger: `batchtopk` and `abstopk` are close as
    words and mean different things.
    """
    try:
        return pick_by_name(kind, name, table, cutoff=TYPO_SIMILARITY)
    except InputError as bad:
        raise InputError(f"{where}: {bad}") from None
