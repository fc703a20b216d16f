"""The dictionaries of an engine by name: loaded already, or loaded when they are asked for."""

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
    """Dictionaries in memory, by name.

    A dictionary that the harvest has and the model has not is refused by the sentence that says
    why, whoever asks for it.
    """

    def __init__(self, found: Mapping[str, Dictionary], elsewhere: Collection[str] = ()) -> None:
        """`elsewhere`: names of dictionaries that are refused, as they read a shuffled model."""
        self._found = found
        self._elsewhere = frozenset(elsewhere)

    @property
    def names(self) -> list[str]:
        """The names, in the harvest's order; asking for them loads nothing."""
        return list(self._found)

    def hook_name(self, name: str) -> str:
        """Return the hook point that a dictionary reads, without loading it if that can be."""
        return self[name].hook_name

    def weights_hash(self, name: str) -> str:
        """Return the hash of a dictionary's weights, without loading it if that can be."""
        return self[name].weights_hash

    @property
    def loading(self) -> str:
        """The name of the dictionary that is being loaded for this table now; empty for none."""
        return ""

    @property
    def budget(self) -> int:
        """The bytes of dictionaries that are kept for later; 0 where nothing is ever dropped."""
        return 0

    def unloaded_bytes(self, names: Sequence[str]) -> int:
        """Return about how many bytes of these dictionaries would have to be loaded now."""
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
    """Dictionaries of a harvest that lie on disk until they are asked for.

    Iterating over names loads nothing; `values()` and `items()` load one after the other.
    """

    def __init__(
        self,
        infos: Mapping[str, DictionaryInfo],
        places: Mapping[str, str],
        lm: LanguageModel,
        cache: DictionaryCache,
        elsewhere: Collection[str] = (),
    ) -> None:
        """`places`: name → where its weights lie, as `backend.dictionaries.load` takes it."""
        super().__init__({}, elsewhere)
        self._infos, self._places, self._lm, self._cache = infos, places, lm, cache
        self._loading = ""

    @property
    def names(self) -> list[str]:
        """See `DictionaryTable.names`."""
        return list(self._infos)

    @property
    def loading(self) -> str:
        """See `DictionaryTable.loading`."""
        return self._loading

    @property
    def budget(self) -> int:
        """See `DictionaryTable.budget`."""
        return self._cache.budget

    def unloaded_bytes(self, names: Sequence[str]) -> int:
        """See `DictionaryTable.unloaded_bytes`; encoder and decoder in float32."""
        infos = [self._infos[name] for name in names if name in self._infos]
        absent = [info for info in infos if self._key(info.dictionary) not in self._cache]
        return sum(4 * info.d_sae * (info.d_in + info.d_out) for info in absent)

    def _key(self, name: str) -> Hashable:
        """What tells a dictionary apart from all others of the process."""
        placement = self._lm.placement
        where = placement.device, placement.dtype
        return name, self._places[name], self._infos[name].weights_hash, self._lm.model_hash, *where

    def hook_name(self, name: str) -> str:
        """See `DictionaryTable.hook_name`."""
        return self._infos[name].hook_name if name in self._infos else super().hook_name(name)

    def weights_hash(self, name: str) -> str:
        """See `DictionaryTable.weights_hash`."""
        return self._infos[name].weights_hash if name in self._infos else super().weights_hash(name)

    def __contains__(self, name: object) -> bool:
        return name in self._infos

    def __getitem__(self, name: str) -> Dictionary:
        """Return a dictionary, loaded if need be.

        InputError where its weights cannot be read or are not those that were harvested.
        """
        if name not in self._infos:
            return super().__getitem__(name)
        lm, key = self._lm, self._key(name)

        def load() -> Dictionary:
            spec = self._places[name]
            one = loaders.load(spec, name=name, placement=lm.placement, width=lm.width)
            info = self._infos[name]
            check_weights_unchanged(f"dictionary {name}", one.weights_hash, info.weights_hash)
            # Places are kept by hash, and equal weights may have been harvested at two hook points.
            return replace(one, hook_name=info.hook_name, hook_out=info.hook_out)

        if key not in self._cache:
            self._loading = name
        try:
            return self._cache.get(key, load)
        finally:
            self._loading = ""


def check_weights_unchanged(what: str, found: str, wanted: str) -> None:
    """InputError where weights have another hash than the one that was harvested."""
    if found != wanted:
        raise InputError(
            f"The {what} has changed on disk since it was harvested, so live numbers would not "
            "belong to this harvest. Harvest it again."
        )
