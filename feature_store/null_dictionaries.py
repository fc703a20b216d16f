"""Null dictionaries of a harvest, for comparison with a trained dictionary: untrained directions,
or the trained dictionary on a model with shuffled weights; they are harvested and scored like any
other.

The `source` of a null dictionary names the dictionary that it is compared with: `null:KIND:NAME`,
with NAME a dictionary of the same harvest. Its own name is NAME~KIND.
"""

from typing import NamedTuple

from feature_store.errors import InputError, suggest_near_miss
from feature_store.harvest_reader import HarvestFile
from feature_store.records import DictionaryInfo

SHUFFLED = "shuffled"
NULL_KINDS = ("random", "pca", "neurons", SHUFFLED)
"""Kinds of null dictionaries: random directions; principal components and the model's own
neurons, each with both signs; and the same dictionary on activations of the model with shuffled
block weights."""


class NullTarget(NamedTuple):
    """Kind of a null dictionary (a control such as random directions, or a model with shuffled
    weights) and the name of the dictionary that it is compared with."""

    kind: str
    dictionary: str


def null_dictionary_name(dictionary: str, kind: str) -> str:
    """Return the name of the null dictionary of a given kind: NAME~KIND."""
    return f"{dictionary}~{kind}"


def null_dictionary_source(dictionary: str, kind: str) -> str:
    """Return the `source` of a null dictionary: `null:KIND:NAME`."""
    return f"null:{kind}:{dictionary}"


def find_null_target(info: DictionaryInfo) -> NullTarget | None:
    """Return the kind of a null dictionary and the dictionary it is compared with; None if it is
    not a null dictionary."""
    word, _, rest = info.source.partition(":")
    kind, colon, dictionary = rest.partition(":")
    return NullTarget(kind, dictionary) if word == "null" and colon and kind in NULL_KINDS else None


def list_model_dictionaries(file: HarvestFile) -> list[str]:
    """Return the dictionaries whose activations are those of the real model, in the harvest's
    order, without null dictionaries on the shuffled model; pages that run the model offer only
    these."""
    return [name for name, info in file.dictionaries.items() if not is_on_shuffled_model(info)]


def is_on_shuffled_model(info: DictionaryInfo) -> bool:
    """Return whether a null dictionary's activations come from the model with shuffled weights."""
    target = find_null_target(info)
    return target is not None and target.kind == SHUFFLED


def describe_shuffled_refusal(dictionary: str) -> str:
    """Return the error message for running the model with a null dictionary of the shuffled
    model."""
    own = dictionary.removesuffix(f"~{SHUFFLED}")
    return (
        f"{dictionary} was harvested on a model with shuffled weights, which are not kept: in "
        f"the model itself it reads the same as {own}. Use {own}, or its results in the harvest."
    )


def find_null_dictionaries(file: HarvestFile, dictionary: str) -> dict[str, str]:
    """Return the null dictionaries of a dictionary: kind -> name, in the order of NULL_KINDS."""
    found = {
        target.kind: info.dictionary
        for info in file.dictionaries.values()
        if (target := find_null_target(info)) is not None and target.dictionary == dictionary
    }
    return {kind: found[kind] for kind in NULL_KINDS if kind in found}


def parse_null_kinds(text: str) -> tuple[str, ...]:
    """Parse kinds of null dictionaries such as `random,pca`: each once, in the order of
    NULL_KINDS; InputError for an unknown kind."""
    named = [part.strip() for part in text.split(",") if part.strip()]
    for word in named:
        if word not in NULL_KINDS:
            raise InputError(
                f"There is no null dictionary {word!r}.{suggest_near_miss(word, list(NULL_KINDS))} "
                f"There are: {', '.join(NULL_KINDS)}."
            )
    return tuple(kind for kind in NULL_KINDS if kind in named)
