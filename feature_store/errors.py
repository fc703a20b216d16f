"""Errors: InputError, the one exception for mistakes that a user can correct, and the lookup by
name that raises it."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")
MAX_LISTED = 12
"""Maximum number of names that an error message lists before it gives the number of the rest."""


class InputError(ValueError):
    """Error for a request that cannot be fulfilled; its message says what would work."""


def pick_by_name(kind: str, name: str, table: Mapping[str, T], *, cutoff: float = 0.6) -> T:
    """Return the entry of `table` called `name`; if there is none, raise InputError with the
    closest name and all names.

    Errors other than KeyError that the table raises for a name are passed on.
    """
    try:
        return table[name]
    except KeyError:
        what = (
            f"No {kind} called {name!r}.{suggest_near_miss(name, table, cutoff)} "
            f"{list_names(table)}"
        )
        raise InputError(what) from None


def suggest_near_miss(
    name: str, names: Mapping[str, object] | list[str], cutoff: float = 0.6
) -> str:
    """Return ` Did you mean 'x'?` for an error message, or an empty text if no name is close.

    Use `cutoff` 0.9 where names are similar but mean different things, so that only typing errors
    get a suggestion.
    """
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)
    return f" Did you mean {close[0]!r}?" if close else ""


def list_names(names: Mapping[str, object] | list[str]) -> str:
    """Return `There are: a, b, c.` for an error message, cut after MAX_LISTED names, or `There
    are none.`"""
    ordered = sorted(names)
    if not ordered:
        return "There are none."
    more = len(ordered) - MAX_LISTED
    tail = f" and {more} more" if more > 0 else ""
    return f"There are: {', '.join(ordered[:MAX_LISTED])}{tail}."
