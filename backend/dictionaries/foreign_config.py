"""Validation of configuration files that other libraries wrote: types, ranges and required keys.

A foreign config is a pydantic model. JSON is taken literally: a string is not a number, `true` is
not a number, 16.0 is the whole number 16, `null` equals an absent key, and NaN is refused. The
first mistake is reported in one sentence that names the file and the key. No library default
replaces a missing value that decides the numbers.
"""

from collections.abc import Mapping
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError
from pydantic_core import PydanticCustomError

from feature_store.errors import InputError, pick_by_name
from feature_store.record_validation import EXPECTED, show_value

T = TypeVar("T")

TYPO_SIMILARITY = 0.9
"""Similarity of two words above which one counts as a misspelling of the other."""


def refusal_error(reason: str) -> PydanticCustomError:
    """Return the error with which a validator of a foreign config file refuses the file: `FILE
    cannot be used: REASON.`"""
    return PydanticCustomError("refused", "{reason}", {"reason": reason})


Text = Annotated[str, Strict(), Field(max_length=1000)]
"""A text in a foreign config; an empty text equals an absent one."""


class ForeignConfig(BaseModel):
    """Configuration file of an SAE that another library wrote; keys without a field here are kept
    as extra values."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    @classmethod
    def read(cls, content: Mapping[str, object], where: str) -> Self:
        """Return the validated configuration of an SAE that another library wrote; InputError with
        one sentence for the first mistake.

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
    wanted = EXPECTED.get(error["type"], wanted)
    if not key:
        return f"{where} cannot be used: {wanted}."
    return f"{where} has {key} = {show_value(error['input'])}: it must be {wanted}."


def pick_kind(where: str, kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return what `table` holds for a name in an SAE's config file, such as the reader of an
    architecture; InputError with the file's path for an unknown name.

    A correction is suggested only for a misspelling: `batchtopk` and `abstopk` look alike and mean
    different things.
    """
    try:
        return pick_by_name(kind, name, table, cutoff=TYPO_SIMILARITY)
    except InputError as bad:
        raise InputError(f"{where}: {bad}") from None
