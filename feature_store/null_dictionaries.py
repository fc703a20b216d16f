"""Null dictionaries of a harvest: directions that nobody trained, harvested and scored alike.

What says whose null one is stands in its `source`: `null:KIND:NAME`, NAME a dictionary of the same
harvest. Its own name is NAME~KIND.
"""

from typing import NamedTuple

from feature_store.errors import InputError, near_miss
from feature_store.reader import HarvestFile
from feature_store.records import DictionaryInfo

KINDS = ("random", "pca", "neurons")
"""Random directions; principal components; the model's own neurons. Both signs of the latter."""


class NullOf(NamedTuple):
    """What a null dictionary stands against."""

    kind: str
    dictionary: str


def null_name(dictionary: str, kind: str) -> str:
    """What the null of a dictionary is called."""
    return f"{dictionary}~{kind}"


def null_source(dictionary: str, kind: str) -> str:
    """What its `source` says."""
    return f"null:{kind}:{dictionary}"


def null_of(info: DictionaryInfo) -> NullOf | None:
    """Whose null a dictionary is; None for one that is no null."""
    word, _, rest = info.source.partition(":")
    kind, colon, dictionary = rest.partition(":")
    return NullOf(kind, dictionary) if word == "null" and colon and kind in KINDS else None


def nulls_of(file: HarvestFile, dictionary: str) -> dict[str, str]:
    """Kind → name of the null dictionaries of one, in the order of KINDS."""
    found = {
        of.kind: info.dictionary
        for info in file.dictionaries.values()
        if (of := null_of(info)) is not None and of.dictionary == dictionary
    }
    return {kind: found[kind] for kind in KINDS if kind in found}


def parse_kinds(text: str) -> tuple[str, ...]:
    """`random,pca` → the kinds, each once, in the order of KINDS; InputError for another word."""
    named = [part.strip() for part in text.split(",") if part.strip()]
    for word in named:
        if word not in KINDS:
            raise InputError(
                f"There is no null dictionary {word!r}.{near_miss(word, list(KINDS))} "
                f"There are: {', '.join(KINDS)}."
            )
    return tuple(kind for kind in KINDS if kind in named)
