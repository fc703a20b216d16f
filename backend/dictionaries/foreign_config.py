"""Validation of configuration files that other libraries wrote: types, ranges and required keys.

A foreign config is a pydantic model. JSON is taken literally: a string is not a number, `true` is
not a number, 16.0 is the whole number 16, `null` equals an absent key, and NaN is refused. The
first mistake is reported in one sentence that names the file and the key. No library default
replaces a missing value that decides the numbers.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError
from pydantic_core import PydanticCustomError

from feature_store.errors import InputError, pick_by_name
from feature_store.strict_json import dump_json

T = TypeVar("T")

LARGEST = 2**31 - 1
"""Upper limit for every width, count and index in a dictionary's configuration."""
SHOWN_CHARACTERS = 60
TYPO_SIMILARITY = 0.9
"""Similarity of two words above which one counts as a misspelling of the other."""
EXPECTED_VALUES = {
    "model_type": "a JSON object",
    "dict_type": "a JSON object",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "bool_type": "true or false",
}
"""Description of the expected value for each pydantic error type whose own message uses Python's
terms."""


def refusal_error(reason: str) -> PydanticCustomError:
    """Return the error with which a validator of a foreign config file refuses the file: `FILE
    cannot be used: REASON.`"""
    return PydanticCustomError("refused", "{reason}", {"reason": reason})


def _read_number(value: object) -> object:
    """Return a JSON number of a foreign config unchanged; refuse booleans and other types."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refusal_error("it must be a number")
    return value


def _read_whole_number(value: object) -> object:
    """Return a whole JSON number of a foreign config as an int; refuse everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refusal_error("it must be a whole number")
    if isinstance(value, float):
        if not value.is_integer():
            raise refusal_error("it must be a whole number")
        return int(value)
    return value


WholeNumber = Annotated[int, BeforeValidator(_read_whole_number), Field(ge=0, le=LARGEST)]
"""A whole number from 0 in a foreign config; 16.0 is read as 16."""
Count = Annotated[int, BeforeValidator(_read_whole_number), Field(ge=1, le=LARGEST)]
"""A whole number from 1 in a foreign config; 16.0 is read as 16."""
Real = Annotated[float, BeforeValidator(_read_number), Field(allow_inf_nan=False)]
"""A finite number in a foreign config."""
Flag = Annotated[bool, Strict()]
"""`true` or `false` in a foreign config."""
Name = Annotated[str, Strict(), Field(min_length=1, max_length=1000)]
Text = Annotated[str, Strict(), Field(max_length=1000)]
"""A text in a foreign config; an empty text equals an absent one."""
Table = dict[str, Any]


class ForeignConfig(BaseModel):
    """A configuration file of another library; keys without a field here are kept as
    extra values."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    @classmethod
    def read(cls, content: Mapping[str, object], where: str) -> Self:
        """Return the validated configuration; InputError with one sentence for the first mistake.

        `where` is the path of the file, with which the sentence begins.
        """
        present = {key: value for key, value in content.items() if value is not None}
        try:
            return cls.model_validate(present)
        except ValidationError as bad:
            raise InputError(_describe_first_error(bad, where)) from None


def _describe_first_error(bad: ValidationError, where: str) -> str:
    """Return one sentence about pydantic's first error: the file, the key, its value, and what the
    value must be."""
    error = bad.errors(include_url=False)[0]
    key = ".".join(str(part) for part in error["loc"]).removeprefix("metadata.")
    if error["type"] == "missing":
        return f"{where} has no {key}, which the dictionary cannot be read without."
    wanted = error["msg"].removeprefix("Input should be ").removeprefix("it must be ")
    wanted = EXPECTED_VALUES.get(error["type"], wanted)
    if not key:
        return f"{where} cannot be used: {wanted}."
    return f"{where} has {key} = {show_value(error['input'])}: it must be {wanted}."


def show_value(value: object) -> str:
    """Return a configuration value as JSON, shortened to a length that fits into a sentence."""
    try:
        text = dump_json(value)
    except InputError:  # a number that is not finite
        text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def pick_kind(where: str, kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return the entry of a table for a name that a config file gives; InputError with the file's
    path for an unknown name.

    A correction is suggested only for a misspelling: `batchtopk` and `abstopk` look alike and mean
    different things.
    """
    try:
        return pick_by_name(kind, name, table, cutoff=TYPO_SIMILARITY)
    except InputError as bad:
        raise InputError(f"{where}: {bad}") from None
