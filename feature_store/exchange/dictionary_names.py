"""Which dictionary of this store another tool's name for it means."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from feature_store.errors import InputError, list_names


@dataclass
class DictionaryNames:
    """Other tools' names of dictionaries → ours. Made anew for each import."""

    sizes: Mapping[str, int]
    """The dictionaries of the store, with their d_sae."""
    given: Mapping[str, str] = field(default_factory=dict)
    """What the person said: the other's name → ours; under "" what any one source means."""
    _only: str | None = None

    def find(self, *sources: str) -> str:
        """Our name of a source that goes by these names. InputError where that is not known."""
        known = [self.given[name] for name in sources if name in self.given]
        if not known and "" in self.given:
            if self._only not in (None, sources[0]):
                raise InputError(
                    f"there are several sources here, {self._only} and {sources[0]}: "
                    "say --dictionary SOURCE=NAME for each"
                )
            self._only = sources[0]
            known = [self.given[""]]
        known += [name for name in sources if name in self.sizes]
        if not known:
            raise InputError(
                f"it is about {sources[0]}, and no dictionary here is called so: say --dictionary "
                f"NAME to tell which one it is. {list_names(dict(self.sizes))}"
            )
        return known[0]

    def check(self) -> "DictionaryNames":
        """Itself, if what the person said names dictionaries that are there."""
        for name in self.given.values():
            if name not in self.sizes:
                raise InputError(f"No dictionary called {name!r}. {list_names(dict(self.sizes))}")
        return self


def parse_dictionary_names(words: tuple[str, ...]) -> dict[str, str]:
    """NAME or SOURCE=NAME, as the command line has them; InputError for two plain names."""
    found: dict[str, str] = {}
    for word in words:
        source, _, name = word.rpartition("=")
        if source in found:
            raise InputError(
                f"--dictionary says twice what {source or 'the source'} means: "
                f"{found[source]} and {name}. Write SOURCE=NAME for each source."
            )
        found[source] = name
    return found
