"""The records that cross package borders: frozen, plain, without tensors."""

from dataclasses import dataclass
from typing import Self

from feature_store.errors import InputError


@dataclass(frozen=True, order=True)
class FeatureId:
    """One feature of one dictionary, written DICTIONARY/INDEX: `gpt2-small/8-res-jb/1042`."""

    dictionary: str
    index: int

    def __str__(self) -> str:
        return f"{self.dictionary}/{self.index}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Split at the last slash, since a dictionary's name may hold slashes itself."""
        dictionary, _, index = text.strip().rpartition("/")
        if not dictionary or not (index.isascii() and index.isdecimal()):
            raise InputError(
                f"{text!r} is not a feature. Write DICTIONARY/INDEX, "
                "for example gpt2-small/8-res-jb/1042."
            )
        return cls(dictionary, int(index))
