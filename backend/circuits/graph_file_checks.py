"""Checks of single values in imported graph files; each InputError names the place in the file."""

import math
from collections.abc import Mapping
from typing import Any

from feature_store.errors import InputError


def get_required_value(row: Mapping[str, Any], name: str, where: str) -> Any:
    """Return the value under a required key of a graph file's object; raises InputError if the key
    is missing."""
    if name not in row:
        raise InputError(f"{where} has no {name!r}.")
    return row[name]


def check_json_object(given: object, where: str) -> Mapping[str, Any]:
    """Check that a value of a graph file is a JSON object, and return it."""
    if not isinstance(given, Mapping):
        raise InputError(f"{where} must be a JSON object, not {type(given).__name__}.")
    return given


def check_json_list(given: object, name: str, most: int | None = None) -> list[Any]:
    """Check that a value of a graph file is a list of at most `most` entries, and return it."""
    if not isinstance(given, list):
        raise InputError(f"{name} must be a list, not {type(given).__name__}.")
    if most is not None and len(given) > most:
        raise InputError(f"{name} has {len(given):,} entries; at most {most:,} can be read.")
    return given


def check_value_type(given: Any, kind: type, where: str) -> Any:
    """Check that a value of a graph file has the given type (true and false do not count as
    numbers), and return it."""
    if not isinstance(given, kind) or isinstance(given, bool):
        raise InputError(f"{where} must be of type {kind.__name__}, not {type(given).__name__}.")
    return given


def check_finite_number(given: object, where: str) -> float:
    """Check that a value of a graph file is a finite number, and return it as a float."""
    try:
        if not isinstance(given, bool) and isinstance(given, int | float) and math.isfinite(given):
            return float(given)
    except OverflowError:  # an integer of hundreds of digits
        pass
    raise InputError(f"{where} is not a finite number: {str(given)[:40]!r}.")


def check_finite_or_null(given: object, where: str) -> float | None:
    """Check that a value of a graph file is a finite number or null, and return it as a float or
    None."""
    return None if given is None else check_finite_number(given, where)
