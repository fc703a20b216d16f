"""Null dictionaries of a harvest: directions that nobody trained, or a trained dictionary on a
model whose weights were shuffled; harvested and scored alike.

What says whose null one is stands in its `source`: `null:KIND:NAME`, NAME a dictionary of the same
harvest. Its own name is NAME~KIND.
"""

from typing import NamedTuple

from feature_store.errors import InputError, suggest_near_miss
from feature_store.harvest_reader import HarvestFile
from feature_store.records import DictionaryInfo

SHUFFLED = "shuffled"
NULL_KINDS = ("random", "pca", "neurons", SHUFFLED)
"""Random directions; principal components and the model's own neurons, both signs of each; the very
dictionary on activations of the model with its blocks' weights shuffled."""


class NullTarget(NamedTuple):
    """What a null dictionary stands against."""

    kind: str
    dictionary: str


def null_dictionary_name(dictionary: str, kind: str) -> str:
    """What the null of a dictionary is called."""
    return f"{dictionary}~{kind}"


def null_dictionary_source(dictionary: str, kind: str) -> str:
    """What its `source` says."""
    return f"null:{kind}:{dictionary}"


def find_null_target(info: DictionaryInfo) -> NullTarget | None:
    """Whose null a dictionary is; None for one that is no null."""
    word, _, rest = info.source.partition(":")
    kind, colon, dictionary = rest.partition(":")
    return NullTarget(kind, dictionary) if word == "null" and colon and kind in NULL_KINDS else None


def list_model_dictionaries(file: HarvestFile) -> list[str]:
    """The dictionaries whose activations are the model's own, in the harvest's order: those that
    live pages may ask for."""
    return [name for name, info in file.dictionaries.items() if not is_on_shuffled_model(info)]


def is_on_shuffled_model(info: DictionaryInfo) -> bool:
    """Whether a dictionary's activations are those of a model with shuffled weights."""
    of = find_null_target(info)
    return of is not None and of.kind == SHUFFLED


def describe_shuffled_refusal(dictionary: str) -> str:
    """Why nothing live is known of a dictionary on a shuffled model, in a sentence."""
    own = dictionary.removesuffix(f"~{SHUFFLED}")
    return (
        f"{dictionary} was harvested on a model with shuffled weights, which is not kept: what it "
        f"would read in the model itself is {own}'s. Use {own}, or read what the harvest has of it."
    )


def find_null_dictionaries(file: HarvestFile, dictionary: str) -> dict[str, str]:
    """Kind → name of the null dictionaries of one, in the order of KINDS."""
    found = {
        of.kind: info.dictionary
        for info in file.dictionaries.values()
        if (of := find_null_target(info)) is not None and of.dictionary == dictionary
    }
    return {kind: found[kind] for kind in NULL_KINDS if kind in found}


def parse_null_kinds(text: str) -> tuple[str, ...]:
    """`random,pca` → the kinds, each once, in the order of KINDS; InputError for another word."""
    named = [part.strip() for part in text.split(",") if part.strip()]
    for word in named:
        if word not in NULL_KINDS:
            raise InputError(
                f"There is no null dictionary {word!r}.{suggest_near_miss(word, list(NULL_KINDS))} "
                f"There are: {', '.join(NULL_KINDS)}."
            )
    return tuple(kind for kind in NULL_KINDS if kind in named)
