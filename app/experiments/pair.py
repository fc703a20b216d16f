"""Two runs beside each other: where their texts part, what their requests differ in."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from app.wording import count, measure, plural

ROUNDING = 1e-3
"""Relative difference up to which numbers count as the same: results are kept with 5 digits, and
threads add in an order of their own."""
SMALL = 1e-4
"""Absolute, beside it."""
SENTENCES = {"notes", "note", "effect_means"}
"""Fields of a result that hold sentences."""


@dataclass(frozen=True)
class Parting:
    """Two texts, token by token."""

    n: tuple[int, int]
    same: int
    """Tokens alike before the first that differs."""
    changed: tuple[frozenset[int], frozenset[int]]
    """Tokens of either that have no like in the other, once both are aligned."""

    @property
    def identical(self) -> bool:
        """Token by token."""
        return self.n[0] == self.n[1] == self.same


def parting(a: Sequence[Hashable], b: Sequence[Hashable]) -> Parting:
    """Of two texts by their token ids, or by pieces where the models differ."""
    same = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    left, right = set(range(len(a))), set(range(len(b)))
    for i, j, size in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks():
        left -= set(range(i, i + size))
        right -= set(range(j, j + size))
    return Parting((len(a), len(b)), same, (frozenset(left), frozenset(right)))


def repeated(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[bool, list[str]]:
    """Whether a steering run said the same again, and a sentence for each text."""
    identical, said = True, []
    for name, old in then["rows"].items():
        new = now["rows"].get(name) or {"tokens": [], "pieces": []}
        found = parting(old["tokens"], new["tokens"])
        identical = identical and found.identical
        said.append(f"{name}: {_said(found, old, new)}")
    return identical, said


def _said(found: Parting, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if found.identical:
        return f"the same {plural(found.n[0], 'token')}"
    at = found.same
    pieces = [row["pieces"][at] if at < len(row["pieces"]) else "its end" for row in (old, new)]
    return (
        f"different from token {at + 1} on ({count(found.n[0])} then, {count(found.n[1])} now): "
        f"{pieces[0]!r} then, {pieces[1]!r} now"
    )


def measured_again(then: Any, now: Any) -> tuple[bool, list[str]]:
    """Whether the numbers of an answer are the same again, and in a sentence how far apart.

    The sentences next to the numbers are not compared: a later version may word them differently.
    """
    old, new = flat_values(then), flat_values(now)
    if old.keys() != new.keys():
        return False, ["different: the answers do not have the same parts"]
    others = {path: (a, new[path]) for path, a in old.items() if not alike(a, new[path])}
    numbers = sum(isinstance(value, int | float) for value in old.values())
    if not others:
        return True, [f"the same {plural(numbers, 'number')}"]
    path, (a, b) = max(others.items(), key=lambda item: _gap(*item[1]))
    told = f"different: {count(len(others))} of {plural(len(old), 'value')}"
    return False, [f"{told}, most at {path}: {shown(a)} then, {shown(b)} now"]


def flat_values(value: Any) -> dict[str, Any]:
    """Return a result as path → value, without the sentences that explain its values."""
    return {path: v for path, v in flat(value).items() if not SENTENCES & set(path.split("."))}


def alike(a: Any, b: Any) -> bool:
    """Equal, or numbers as near as rounding leaves them."""
    if isinstance(a, int | float) and isinstance(b, int | float):
        return abs(a - b) <= SMALL + ROUNDING * abs(a)
    return a == b


def _gap(a: Any, b: Any) -> float:
    both = isinstance(a, int | float) and isinstance(b, int | float)
    return abs(a - b) if both else float("inf")


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(path, there, here) of everything that two requests do not share; absent is a dash."""
    left, right = flat(a), flat(b)
    paths = [*left, *(path for path in right if path not in left)]
    missing = object()

    def cell(side: Mapping[str, Any], path: str) -> str:
        return shown(side[path]) if path in side else "–"

    return [
        (path, cell(left, path), cell(right, path))
        for path in paths
        if left.get(path, missing) != right.get(path, missing)
    ]


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested data as path → value: `sampling.seed`, `edits.0.strength`."""
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = ((str(i), one) for i, one in enumerate(value))
    else:
        return {path: value}
    found: dict[str, Any] = {}
    for name, one in parts:
        found |= flat(one, f"{path}.{name}" if path else str(name))
    return found


def brief(value: Any) -> Any:
    """Nested data with each estimate as one text: `8.576 [7.522, 9.574], n 32`."""
    if isinstance(value, Mapping):
        if not {"value", "low", "high"} <= value.keys():
            return {name: brief(one) for name, one in value.items()}
        low, high = value["low"], value["high"]
        interval = "" if low is None or high is None else f" [{shown(low)}, {shown(high)}]"
        return f"{shown(value['value'])}{interval}" + (f", n {value['n']}" if "n" in value else "")
    return [brief(one) for one in value] if isinstance(value, list | tuple) else value


def shown(value: Any) -> str:
    """A value in a cell."""
    if isinstance(value, float):
        return measure(value, 4)
    return "none" if value is None else str(value)
