"""The one error for mistakes that a user can mend, and the one lookup that raises it."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")
MAX_LISTED = 12
"""How many names an error lists before it says how many more there are."""


class InputError(ValueError):
    """The user asked for something that cannot be; the message says what would work."""


def pick_by_name(kind: str, name: str, table: Mapping[str, T], *, cutoff: float = 0.6) -> T:
    """The entry of `table` called `name`, or an InputError with a near miss and what there is; or
    with what the table itself says of a name that it knows and refuses."""
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
    """` Did you mean 'x'?`, or nothing when no name is close.

    `cutoff`: 0.9 where names are close that mean different things, so that only a slip of the
    finger is put right.
    """
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)
    return f" Did you mean {close[0]!r}?" if close else ""


def list_names(names: Mapping[str, object] | list[str]) -> str:
    """`There are: a, b, c.`, cut after a dozen, or `There are none.`"""
    ordered = sorted(names)
    if not ordered:
        return "There are none."
    more = len(ordered) - MAX_LISTED
    tail = f" and {more} more" if more > 0 else ""
    return f"There are: {', '.join(ordered[:MAX_LISTED])}{tail}."
