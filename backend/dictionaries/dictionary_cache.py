"""A memory cache of loaded dictionaries, limited by a budget of bytes.

The least recently used dictionaries are dropped first. A dictionary that is still in use elsewhere
(a run with an edit, a circuit over all layers) stays in memory until it is released, and other
callers get the same object meanwhile; the budget covers only what is kept for later.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from weakref import WeakValueDictionary

from torch import Tensor, nn

from backend.dictionaries.base import Dictionary
from backend.model.device import read_device_memory
from backend.model.memory_budget import dictionary_memory_budget


def dictionary_bytes(dictionary: Dictionary) -> int:
    """Return the bytes of all tensor storages of a dictionary, each counted once.

    A memory-mapped file counts as a whole.
    """
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in _tensors(dictionary)}
    return sum(storage.nbytes() for storage in storages.values())


def _tensors(owner: object) -> Iterator[Tensor]:
    """Yield every tensor of a dictionary, from its fields, the fields of its parts and torch
    modules, to count its bytes in the cache."""
    if isinstance(owner, Tensor):
        yield owner
    elif isinstance(owner, nn.Module):
        yield from owner.parameters()
        yield from owner.buffers()
    elif type(owner).__module__.startswith("backend.dictionaries"):
        for part in vars(owner).values():
            yield from _tensors(part)


class DictionaryCache:
    """A cache of loaded dictionaries by key, which keeps at most `budget` bytes and always at least
    one dictionary."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._guard = threading.Lock()
        self._loading = threading.Lock()  # one dictionary is loaded at a time
        self._kept: OrderedDict[Hashable, Dictionary] = OrderedDict()
        """Cached dictionaries, the least recently used first."""
        self._alive: WeakValueDictionary[Hashable, Dictionary] = WeakValueDictionary()

    def get(self, key: Hashable, load: Callable[[], Dictionary]) -> Dictionary:
        """Return the dictionary of this key from the cache, or load it with `load`, whose errors
        pass through."""
        found = self._find(key)
        if found is None:
            with self._loading:
                found = self._find(key)  # another thread may have loaded it while this one waited
                if found is None:
                    found = load()
                    self._keep(key, found)
        return found

    def kept_bytes(self) -> int:
        """Return the total bytes of the dictionaries that the cache keeps."""
        with self._guard:
            return sum(map(dictionary_bytes, self._kept.values()))

    def __contains__(self, key: Hashable) -> bool:
        return key in self._alive

    def _find(self, key: Hashable) -> Dictionary | None:
        """Return the dictionary of this key if the cache has it in memory, and mark it as recently
        used."""
        with self._guard:
            found = self._alive.get(key)
        if found is not None:
            self._keep(key, found)
        return found

    def _keep(self, key: Hashable, found: Dictionary) -> None:
        """Put a dictionary into the cache and drop the least recently used ones beyond
        the budget."""
        with self._guard:
            self._alive[key] = self._kept[key] = found
            self._kept.move_to_end(key)
            sizes = {name: dictionary_bytes(one) for name, one in self._kept.items()}
            left = sum(sizes.values())
            while left > self.budget and len(self._kept) > 1:
                oldest, _ = self._kept.popitem(last=False)
                left -= sizes[oldest]


@lru_cache(maxsize=1)
def shared_dictionary_cache() -> DictionaryCache:
    """Return the dictionary cache of this process, whose budget comes from the environment or from
    the device's memory."""
    return DictionaryCache(dictionary_memory_budget(read_device_memory()))
