"""Which features, in which order: what the URL says of the table of features, read and written."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from app.columns import COLUMNS
from app.wording import THIN, count, measure, plural, share
from feature_store.errors import InputError, pick_by_name
from feature_store.feature_table import NUMBER_COLUMNS, SORT_COLUMNS, FeatureQuery
from feature_store.number_ranges import join_ranges

SHOW: dict[str, tuple[tuple[str, float | None, float | None], ...]] = {
    "alive": (("n_active", 1, None),),
    "dead": (("n_active", None, 0),),
    "all": (),
}
"""Which features, by how many tokens they fired on."""
FLAGS = {"labelled": "label", "starred": "star"}
"""Parameter of the URL → the kind of annotation that a feature must have."""
MOST = 5_000
"""Features that `only` may name."""
Bound = tuple[str, float | None, float | None]


@dataclass(frozen=True)
class Choice:
    """What a person chose; `show` comes on top of the rest."""

    show: str = "alive"
    wanted: FeatureQuery = FeatureQuery()

    @property
    def whole(self) -> FeatureQuery:
        """Everything as one."""
        return replace(self.wanted, between=(*SHOW[self.show], *self.wanted.between))

    def bounded(self, column: str, low: float | None, high: float | None) -> "Choice":
        """With other bounds of a column; with none at all, without any."""
        others = tuple(one for one in self.wanted.between if one[0] != column)
        new = ((column, low, high),) if (low, high) != (None, None) else ()
        return replace(self, wanted=replace(self.wanted, between=(*others, *new)))


def read(given: Mapping[str, str]) -> Choice:
    """The choice that the URL's parameters make. What they get wrong is an InputError."""
    show = given.get("show", "alive")
    pick_by_name("choice of features", show, SHOW)
    sort = given.get("sort", "feature")
    pick_by_name("column to sort by", sort.removeprefix("-"), SORT_COLUMNS)
    wanted = FeatureQuery(
        between=tuple(bound(part) for part in given.get("filter", "").split(",") if part.strip()),
        name_contains=given.get("label", "").strip(),
        required_annotations=tuple(kind for name, kind in FLAGS.items() if flag(given, name)),
        only_features=tuple(numbers(given.get("only", ""))),
        order=sort.removeprefix("-"),
        descending=sort.startswith("-"),
    )
    return Choice(show, wanted)


def write(choice: Choice) -> dict[str, str]:
    """The URL's parameters that make this choice; the usual is left out."""
    wanted = choice.wanted
    said = {
        "show": choice.show if choice.show != "alive" else "",
        "filter": ",".join(f"{c}:{plain(low)}..{plain(high)}" for c, low, high in wanted.between),
        "label": wanted.name_contains,
        **{
            name: "1" if kind in wanted.required_annotations else "" for name, kind in FLAGS.items()
        },
        "only": join_ranges(wanted.only_features),
        "sort": "-" * wanted.descending + wanted.order,
    }
    return {name: text for name, text in said.items() if text and (name, text) != USUAL}


USUAL = ("sort", "feature")


def bound(part: str) -> Bound:
    """`density:0.001..0.01`, either end open."""
    column, colon, limits = part.strip().partition(":")
    low, dots, high = limits.partition("..")
    if not (colon and dots):
        raise InputError(
            f"filter={part} is not of the form COLUMN:LOW..HIGH. Write for instance "
            "density:0.001..0.01 or max_act:5.."
        )
    pick_by_name("column to filter by", column, NUMBER_COLUMNS)
    ends = (number(low, part), number(high, part))
    if None not in ends and ends[0] > ends[1]:  # type: ignore[operator]  # neither is None
        raise InputError(f"filter={part} has nothing between its ends. Put the smaller one first.")
    return (column, *ends)


def number(text: str, part: str) -> float | None:
    """An end of a filter; None where it is open."""
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f"filter={part} needs numbers, and {text.strip()!r} is none. Write for instance "
            "density:0.001..0.01 or max_act:5.."
        )
    return value


def flag(given: Mapping[str, str], name: str) -> bool:
    """A filter that is on or absent."""
    if given.get(name, "1") != "1":
        raise InputError(f"{name}={given[name]} is not {name}=1. Take it out of the URL.")
    return name in given


def numbers(text: str) -> Iterable[int]:
    """`3,8-10` as 3, 8, 9, 10."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end.isdecimal() and len(end) < 10 for end in ends):
            raise InputError(
                f"only={part} names no features. Write numbers and ranges, such as 3,8-10."
            )
        low, high = map(int, ends)
        if high - low >= MOST or len(found) + high - low >= MOST:
            raise InputError(f"only= names more than {MOST} features. Name fewer of them.")
        found.update(range(low, high + 1))
    return sorted(found)


def plain(value: float | None) -> str:
    """A number as short as it reads back the same."""
    return "" if value is None else repr(value).removesuffix(".0")


def words(choice: Choice) -> str:
    """The choice as a person says it: `alive, density ≥ 1 %, by max, largest first`."""
    wanted = choice.wanted
    parts = [choice.show, *(said(*one) for one in wanted.between)]
    parts += [f"label contains “{wanted.name_contains}”"] if wanted.name_contains else []
    parts += [name for name, kind in FLAGS.items() if kind in wanted.required_annotations]
    parts += (
        [f"{plural(len(wanted.only_features), 'feature')} by number"]
        if wanted.only_features
        else []
    )
    way = f", {'largest' if wanted.descending else 'smallest'} first"
    sort = "number" if wanted.order == "feature" else COLUMNS[wanted.order].title
    return ", ".join([*parts, f"by {sort}{way * (USUAL[1] != wanted.order)}"])


def said(column: str, low: float | None, high: float | None) -> str:
    """A filter in words: `density 0.1 % to 1 %`."""
    write = share if is_share(column) else whole if COLUMNS[column].kind == "count" else measure
    ends = [
        text
        for text in (
            low is not None and f"≥{THIN}{write(low)}",
            high is not None and f"≤{THIN}{write(high)}",
        )
        if text
    ]
    both = ends[0]
    if low is not None and high is not None:
        both = f"{write(low)} to {write(high)}"
    return f"{COLUMNS[column].title} {both}"


def whole(value: float) -> str:
    """A bound of a count."""
    return count(int(value)) if value == int(value) else measure(value)


def is_share(column: str) -> bool:
    """Whether people read it in per cent."""
    return COLUMNS[column].kind == "share"
