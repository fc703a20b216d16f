"""Tables of an engine's dictionaries by name: already loaded, or loaded lazily when first used."""

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

from backend import dictionaries as loaders
from backend.dictionaries.base import Dictionary
from backend.dictionaries.dictionary_cache import DictionaryCache
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.null_dictionaries import describe_shuffled_refusal
from feature_store.records import DictionaryInfo


class DictionaryTable(Mapping[str, Dictionary]):
    """Read-only mapping from names to the loaded dictionaries (SAEs and others) of a harvest.

    A dictionary of the harvest that reads the shuffled model (a copy of the language model with
    permuted weights) is refused with a sentence that says why.
    """

    def __init__(
        self, found: Mapping[str, Dictionary], refused_names: Collection[str] = ()
    ) -> None:
        """Make a table of loaded dictionaries; `refused_names` are dictionaries that cannot be used
        here, since they read a shuffled model."""
        self._found = found
        self._elsewhere = frozenset(refused_names)

    @property
    def names(self) -> list[str]:
        """Names of the table's dictionaries in the harvest's order; no dictionary is loaded."""
        return list(self._found)

    def read_hooks(self, name: str) -> tuple[str, ...]:
        """Return the hook points that a dictionary of the table reads, without loading the
        dictionary where possible."""
        return self[name].read_hooks

    def weights_hash(self, name: str) -> str:
        """Return the hash of a dictionary's weights, without loading the dictionary where
        possible."""
        return self[name].weights_hash

    @property
    def loading(self) -> str:
        """Name of the dictionary that is being loaded into the table at the moment; empty if none
        is."""
        return ""

    @property
    def budget(self) -> int:
        """Memory budget in bytes of the dictionaries that stay loaded; 0 where none is ever
        dropped."""
        return 0

    def unloaded_bytes(self, names: Sequence[str]) -> int:
        """Return about how many bytes of the named dictionaries are not in memory yet, so that
        using them would load as many."""
        return 0

    def __getitem__(self, name: str) -> Dictionary:
        if name not in self._found and name in self._elsewhere:
            raise InputError(describe_shuffled_refusal(name))
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class LazyDictionaryTable(DictionaryTable):
    """Table of a harvest's dictionaries that stay on disk until they are first used.

    Iterating over names loads nothing; `values()` and `items()` load one dictionary after the
    other.
    """

    def __init__(
        self,
        infos: Mapping[str, DictionaryInfo],
        places: Mapping[str, str],
        lm: LanguageModel,
        cache: DictionaryCache,
        refused_names: Collection[str] = (),
    ) -> None:
        """Make a lazy table of dictionaries; `places` maps a dictionary's name to the folder, file
        or hub id of its weights, as `backend.dictionaries.load` takes it."""
        super().__init__({}, refused_names)
        self._infos, self._places, self._lm, self._cache = infos, places, lm, cache
        self._loading = ""

    @property
    def names(self) -> list[str]:
        """Names of the lazy table's dictionaries; see `DictionaryTable.names`."""
        return list(self._infos)

    @property
    def loading(self) -> str:
        """Name of the dictionary that the lazy table is loading; see `DictionaryTable.loading`."""
        return self._loading

    @property
    def budget(self) -> int:
        """Budget in bytes of the dictionary cache; see `DictionaryTable.budget`."""
        return self._cache.budget

    def unloaded_bytes(self, names: Sequence[str]) -> int:
        """Return how many bytes of the named dictionaries' encoders and decoders, in float32, are
        not in the dictionary cache yet."""
        infos = [self._infos[name] for name in names if name in self._infos]
        missing = [info for info in infos if self._key(info.dictionary) not in self._cache]
        return sum(4 * info.d_sae * (info.d_in + info.d_out) for info in missing)

    def _key(self, name: str) -> Hashable:
        """Return the key under which the lazy dictionary table keeps a dictionary in the
        process-wide cache: name, path, hashes and placement."""
        placement = self._lm.placement
        where = placement.device, placement.dtype
        return name, self._places[name], self._infos[name].weights_hash, self._lm.model_hash, *where

    def read_hooks(self, name: str) -> tuple[str, ...]:
        """Return the hook points that a dictionary reads from the harvest's record; see
        `DictionaryTable.read_hooks`."""
        return self._infos[name].read_hooks if name in self._infos else super().read_hooks(name)

    def weights_hash(self, name: str) -> str:
        """Return the hash of a dictionary's weights from the harvest's record; see
        `DictionaryTable.weights_hash`."""
        return self._infos[name].weights_hash if name in self._infos else super().weights_hash(name)

    def __contains__(self, name: object) -> bool:
        return name in self._infos

    def __getitem__(self, name: str) -> Dictionary:
        """Return a dictionary of the lazy table, loading it on first use.

        Raise InputError when its weights cannot be read or are not those that were harvested.
        """
        if name not in self._infos:
            return super().__getitem__(name)
        lm, key = self._lm, self._key(name)

        def load() -> Dictionary:
            spec = self._places[name]
            loaded = loaders.load(spec, name=name, placement=lm.placement, width=lm.width)
            info = self._infos[name]
            check_weights_unchanged(f"dictionary {name}", loaded.weights_hash, info.weights_hash)
            # Paths are known by hash, and equal weights may have been harvested at two hook points.
            return replace(loaded, reads=info.reads, writes=info.writes)

        if key not in self._cache:
            self._loading = name
        try:
            return self._cache.get(key, load)
        finally:
            self._loading = ""


def check_weights_unchanged(subject: str, actual: str, expected: str) -> None:
    """Raise InputError when the weights of a model or dictionary have another hash than those that
    were harvested."""
    if actual != expected:
        raise InputError(
            f"The {subject} has changed on disk since it was harvested, so live numbers would not "
            "belong to this harvest. Harvest it again."
        )
