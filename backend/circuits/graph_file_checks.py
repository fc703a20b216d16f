"""Checks of values in other tools' graph files; each InputError names the place."""

import math
from collections.abc import Mapping
from typing import Any

from feature_store.errors import InputError


def get_required_value(row: Mapping[str, Any], name: str, where: str) -> Any:
    """Return the value under a key that must be there."""
    if name not in row:
        raise InputError(f"{where} has no {name!r}.")
    return row[name]


def check_json_object(given: object, where: str) -> Mapping[str, Any]:
    """Return a JSON object."""
    if not isinstance(given, Mapping):
        raise InputError(f"{where} is not a JSON object but a {type(given).__name__}.")
    return given


def check_json_list(given: object, name: str, most: int | None = None) -> list[Any]:
    """Return a list of at most `most` entries."""
    if not isinstance(given, list):
        raise InputError(f"{name} is not a list but a {type(given).__name__}.")
    if most is not None and len(given) > most:
        raise InputError(f"{name} has {len(given):,} entries; at most {most:,} are read.")
    return given


def check_value_type(given: Any, kind: type, where: str) -> Any:
    """Return a value of a type; true and false are no numbers."""
    if not isinstance(given, kind) or isinstance(given, bool):
        raise InputError(f"{where} is not of type {kind.__name__} but {type(given).__name__}.")
    return given


def check_finite_number(given: object, where: str) -> float:
    """Return a finite number."""
    try:
        if not isinstance(given, bool) and isinstance(given, int | float) and math.isfinite(given):
            return float(given)
    except OverflowError:  # a whole number of hundreds of digits
        pass
    raise InputError(f"{where} is no finite number: {str(given)[:40]!r}.")


def check_finite_or_null(given: object, where: str) -> float | None:
    """Return a finite number, or None for null."""
    return None if given is None else check_finite_number(given, where)
