"""Dictionary names: which dictionary of this store another tool's name means, when files are
imported."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from feature_store.errors import InputError, list_names


@dataclass
class DictionaryNames:
    """Lookup, for one import, from another tool's name of a dictionary to its name in this
    store."""

    sizes: Mapping[str, int]
    """The dictionaries of the store with their number of features."""
    user_names: Mapping[str, str] = field(default_factory=dict)
    """Names that the user gave: the other tool's name -> name in this store; under "" the name
    for a single source."""
    _only: str | None = None

    def find(self, *sources: str) -> str:
        """Return this store's name of a dictionary that another tool calls by one of `sources`.
        InputError if it is unknown."""
        known = [self.user_names[name] for name in sources if name in self.user_names]
        if not known and "" in self.user_names:
            if self._only not in (None, sources[0]):
                raise InputError(
                    f"there are several sources here, {self._only} and {sources[0]}: "
                    "give --dictionary SOURCE=NAME for each"
                )
            self._only = sources[0]
            known = [self.user_names[""]]
        known += [name for name in sources if name in self.sizes]
        if not known:
            raise InputError(
                f"it is about {sources[0]}, and no dictionary here has that name: give "
                f"--dictionary NAME to say which one it is. {list_names(dict(self.sizes))}"
            )
        return known[0]

    def check(self) -> "DictionaryNames":
        """Return this lookup of dictionary names itself if every dictionary that the user named
        exists in the store; otherwise raise InputError."""
        for name in self.user_names.values():
            if name not in self.sizes:
                raise InputError(f"No dictionary called {name!r}. {list_names(dict(self.sizes))}")
        return self


def parse_dictionary_names(words: tuple[str, ...]) -> dict[str, str]:
    """Parse the values of --dictionary, NAME or SOURCE=NAME, into a map; InputError for two
    values for one source."""
    found: dict[str, str] = {}
    for word in words:
        source, _, name = word.rpartition("=")
        if source in found:
            raise InputError(
                f"--dictionary gives two names for {source or 'the source'}: "
                f"{found[source]} and {name}. Write SOURCE=NAME for each source."
            )
        found[source] = name
    return found
