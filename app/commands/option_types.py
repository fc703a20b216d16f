"""Types of option values. Each type refuses a wrong value before any work begins.

An error is one sentence that names the option, the given value, and what would work.
Every option of every command is of one of these kinds or a flag (`tests/test_cli_options.py`), so
that a new option is validated, and tested with bad values, as soon as it exists.
"""

import math
import os
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from backend.model.memory_budget import parse_memory_size
from feature_store.errors import InputError, list_names, suggest_near_miss

LONGEST_SHOWN = 60
"""Maximum number of characters of a refused value in a message."""
LONGEST_TEXT = 1_000_000
"""Maximum number of characters of a prompt or another text."""
LONGEST_NAME = 1_000
"""Maximum number of characters of a name, an identifier or an address."""
LONGEST_PATH = 4_096
"""Maximum number of bytes of a path on Linux."""
LONGEST_PATH_PART = 255
"""Maximum number of bytes of one name within a path."""
LARGEST_SEED = 2**32 - 1
"""The largest seed that every library in use takes (numpy's legacy generator is the narrowest)."""


def quote_value(value: object) -> str:
    """Return a refused value for a message: shortened, and without control characters."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
    text = text.encode("utf-8", "replace").decode("utf-8")
    return f"{text[:LONGEST_SHOWN]}…" if len(text) > LONGEST_SHOWN else text or "an empty text"


def name_option(param: click.Parameter | None) -> str:
    """Return the name of a parameter for a message: its longest option, or its metavar."""
    if param is None:
        return "The value"
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    return param.metavar or str(param.name).upper()


class ValidatedType(click.ParamType):
    """A click parameter type whose subclasses read a value or raise InputError."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value as the command takes it. Raises InputError for a wrong value.

        Default values are not checked.
        """
        if ctx and param and ctx.get_parameter_source(str(param.name)) is ParameterSource.DEFAULT:
            return value
        return self.read_value(value, name_option(param))

    @abstractmethod
    def read_value(self, value: Any, option: str) -> Any:
        """Return the value of an option, or raise InputError with the whole sentence."""


class WholeNumber(ValidatedType):
    """A whole number from `least` to `most`, in plain digits."""

    name = "integer"

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most

    def read_value(self, value: Any, option: str) -> int:
        """Return the value as an int within the bounds, or raise InputError."""
        text = str(value).strip()
        digits = text.removeprefix("-").removeprefix("+")
        if not (digits.isascii() and digits.isdecimal()):
            raise InputError(f"{option} must be a whole number, not {quote_value(value)}.")
        number = int(text) if len(digits) < 100 else None
        if number is None or not self.least <= number <= self.most:
            shown = quote_value(text)
            if number is not None and number < self.least:
                raise InputError(f"{option} must be {self.least:,} or more, not {shown}.")
            raise InputError(f"{option} must be at most {self.most:,}, not {shown}.")
        return number


class FiniteNumber(ValidatedType):
    """A finite number between two bounds, the lower one left out where `above` is set."""

    name = "number"

    def __init__(self, least: float, most: float, *, above: bool = False) -> None:
        self.least, self.most, self.above = least, most, above

    def read_value(self, value: Any, option: str) -> float:
        """Return the value as a finite float within the bounds, or raise InputError."""
        text = str(value).strip()
        try:
            number = float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{option} must be a finite number, not {quote_value(value)}.")
        low = number <= self.least if self.above else number < self.least
        if low or number > self.most:
            bound = "above" if self.above else "at least"
            raise InputError(
                f"{option} must be {bound} {self.least:g} and at most {self.most:g}, "
                f"not {quote_value(value)}."
            )
        return number


class FilledText(ValidatedType):
    """A text that is not empty, that UTF-8 can hold, and that is not longer than `longest`."""

    name = "text"

    def __init__(self, longest: int = LONGEST_NAME, read: Callable[[str], Any] | None = None):
        self.longest, self.read = longest, read

    def read_value(self, value: Any, option: str) -> Any:
        """Return the text, or what `read` makes of it; raises InputError for an empty or too long
        text."""
        text = str(value)
        if not text.strip() and not (text and self.longest == LONGEST_TEXT):
            raise InputError(f"{option} is empty: give it a value, or leave the option out.")
        check_text(text, option, self.longest)
        return text if self.read is None else self.read(text)


class OneOf(ValidatedType):
    """One of a table's names; the error for an unknown name suggests the nearest one."""

    name = "choice"

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)

    def read_value(self, value: Any, option: str) -> str:
        """Return the name if the table has it, or raise InputError."""
        if value not in self.names:
            hint = suggest_near_miss(str(value)[:LONGEST_NAME], self.names)
            raise InputError(
                f"{option} cannot be {quote_value(value)}.{hint} {list_names(self.names)}"
            )
        return value

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the names as `--help` shows them."""
        return f"[{'|'.join(self.names)}]"


class SomeOf(ValidatedType):
    """Several of a table's names, separated by commas; duplicates are dropped."""

    name = "names"

    def __init__(self, names: Collection[str]) -> None:
        self.one = OneOf(names)

    def read_value(self, value: Any, option: str) -> str:
        """Return the names joined by commas, or raise InputError for an unknown one."""
        given = [part.strip() for part in str(value).split(",") if part.strip()]
        if not given:
            raise InputError(f"{option} is empty. {list_names(self.one.names)}")
        for name in given:
            self.one.read_value(name, option)
        return ",".join(dict.fromkeys(given))


class LocalPath(ValidatedType):
    """A local path. `must_be` is `file` or `folder` for a path that must exist as such, and
    `folder or new` for a folder or a path that does not exist."""

    name = "path"

    def __init__(self, must_be: str = "") -> None:
        self.must_be = must_be

    def read_value(self, value: Any, option: str) -> Path:
        """Return the value as a path of the required kind, or raise InputError."""
        text = os.fspath(value)
        if not text.strip():
            raise InputError(f"{option} is empty: give a path, or leave the option out.")
        check_text(text, option, LONGEST_PATH)
        parts = [len(part.encode("utf-8")) for part in Path(text).parts]
        if len(text.encode("utf-8")) > LONGEST_PATH or max(parts, default=0) > LONGEST_PATH_PART:
            raise InputError(f"{option} {quote_value(text)} is too long for a path.")
        path = Path(text)
        try:
            self._check_kind(path, option)
        except OSError as error:
            reason = (error.strerror or "it cannot be read").lower()
            raise InputError(f"{option} {quote_value(text)} cannot be used: {reason}.") from error
        return path

    def _check_kind(self, path: Path, option: str) -> None:
        shown = quote_value(path)
        above = next((one for one in path.absolute().parents if one.exists()), None)
        if above is not None and not above.is_dir():
            raise InputError(
                f"{option} {shown} lies within {above.name}, which is a file: name another path."
            )
        if self.must_be == "file" and not path.is_file():
            why = "is a folder, not a file" if path.is_dir() else "does not exist"
            raise InputError(f"{option} {shown} {why}: name a file.")
        if self.must_be == "folder" and not path.is_dir():
            why = "is a file, not a folder" if path.exists() else "does not exist"
            raise InputError(f"{option} {shown} {why}: name a folder.")
        if self.must_be == "folder or new" and path.exists() and not path.is_dir():
            raise InputError(f"{option} {shown} is a file, not a folder: name a folder.")


class MemorySize(ValidatedType):
    """A number of bytes, such as 64MB."""

    name = "size"

    def read_value(self, value: Any, option: str) -> int:
        """Return the size in bytes, or raise InputError."""
        try:
            return parse_memory_size(str(value))
        except InputError:
            raise InputError(
                f"{option} must be a size of at least 1MB, such as 64MB, 1.5GB or 2GiB, "
                f"not {quote_value(value)}."
            ) from None


def check_text(text: str, option: str, longest: int) -> None:
    """Raise InputError for a text that is too long, is not UTF-8, or holds a NUL character."""
    if len(text) > longest:
        raise InputError(
            f"{option} is too long: {len(text):,} characters, where {longest:,} are allowed."
        )
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise InputError(f"{option} {quote_value(text)} is not valid UTF-8.")
    if "\0" in text:
        raise InputError(f"{option} {quote_value(text)} holds a NUL character.")


SEED = WholeNumber(0, LARGEST_SEED)
NAME = FilledText()
TEXT = FilledText(LONGEST_TEXT)
STORE_FOLDER = LocalPath("folder or new")
