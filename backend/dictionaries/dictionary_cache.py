"""Dictionaries loaded when they are first asked for, and kept within a budget of bytes.

The least recently used ones are dropped first. A dictionary that somebody still holds (a run with
an edit, a circuit over all layers) stays in memory until it lets go, and whoever asks for it
meanwhile gets that same object: the budget is of what is kept for later.
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
    """Return the bytes of all storages behind a dictionary's tensors, each counted once.

    A file that is memory-mapped counts as a whole.
    """
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in _tensors(dictionary)}
    return sum(storage.nbytes() for storage in storages.values())


def _tensors(owner: object) -> Iterator[Tensor]:
    """Yield the tensors in an object's fields, in those of its parts, and in modules."""
    if isinstance(owner, Tensor):
        yield owner
    elif isinstance(owner, nn.Module):
        yield from owner.parameters()
        yield from owner.buffers()
    elif type(owner).__module__.startswith("backend.dictionaries"):
        for part in vars(owner).values():
            yield from _tensors(part)


class DictionaryCache:
    """Dictionaries of a process by any key: at most `budget` bytes are kept, one is always kept."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._guard = threading.Lock()
        self._loading = threading.Lock()  # one dictionary is loaded at a time
        self._kept: OrderedDict[Hashable, Dictionary] = OrderedDict()
        """The least recently used first."""
        self._alive: WeakValueDictionary[Hashable, Dictionary] = WeakValueDictionary()

    def get(self, key: Hashable, load: Callable[[], Dictionary]) -> Dictionary:
        """Return the dictionary of this key, from memory or from `load`, whose errors pass."""
        found = self._find(key)
        if found is None:
            with self._loading:
                found = self._find(key)  # another thread may have loaded it while this one waited
                if found is None:
                    found = load()
                    self._keep(key, found)
        return found

    def kept_bytes(self) -> int:
        """Return the bytes of the dictionaries that are kept."""
        with self._guard:
            return sum(map(dictionary_bytes, self._kept.values()))

    def __contains__(self, key: Hashable) -> bool:
        return key in self._alive

    def _find(self, key: Hashable) -> Dictionary | None:
        with self._guard:
            found = self._alive.get(key)
        if found is not None:
            self._keep(key, found)
        return found

    def _keep(self, key: Hashable, found: Dictionary) -> None:
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
    """The one cache of this process, with the budget of the environment or the device's default."""
    return DictionaryCache(dictionary_memory_budget(read_device_memory()))
