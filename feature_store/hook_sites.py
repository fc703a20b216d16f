"""Read and write sites of a dictionary: hook points with their slices of encoder and decoder.

An SAE reads and writes one hook point, a transcoder reads one and writes another, a cross-layer
transcoder writes several, and a crosscoder reads and writes several. The activations of all read
sites are concatenated to what the encoder reads, and the decoder's output is split into what is
written at each write site.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from feature_store.errors import InputError


@dataclass(frozen=True)
class HookSite:
    """One hook point at which a dictionary reads or writes."""

    hook: str
    """Hook point in TransformerLens' naming."""
    start: int
    """First coordinate of this site in the concatenated activations of all sites."""
    stop: int
    """Coordinate after the last one of this site; stop - start is the hook point's width."""
    model: str = ""
    """Model whose activations are meant: empty for the harvest's own, `shuffled` for the
    weight-shuffled one."""

    @property
    def columns(self) -> slice:
        """Slice of this site's coordinates in the concatenated activations of all read (or all
        write) sites of the dictionary."""
        return slice(self.start, self.stop)

    @property
    def width(self) -> int:
        """Number of coordinates of this site, the width of its hook point."""
        return self.stop - self.start


class ReadSite(HookSite):
    """A hook point that a dictionary reads, with rows `start` to `stop` of its encoder."""


class WriteSite(HookSite):
    """A hook point that a dictionary writes, with columns `start` to `stop` of its decoder."""


class SitedDictionary:
    """Base class of loaded dictionaries and of the store's records of them: hook points and other
    properties that follow from a dictionary's read and write sites."""

    reads: tuple[ReadSite, ...]
    writes: tuple[WriteSite, ...]

    @property
    def site_owner(self) -> str:
        """Name of the dictionary in error messages about its sites."""
        raise NotImplementedError

    @property
    def read_hooks(self) -> tuple[str, ...]:
        """Hook points that the dictionary reads, in the order of its read sites."""
        return tuple(site.hook for site in self.reads)

    @property
    def write_hooks(self) -> tuple[str, ...]:
        """Hook points that the dictionary writes, in the order of its write sites."""
        return tuple(site.hook for site in self.writes)

    @property
    def hook_name(self) -> str:
        """The one hook point that the dictionary reads; InputError where it reads several."""
        return self._only(self.read_hooks, "reads")

    @property
    def hook_out(self) -> str:
        """The one hook point that the dictionary writes; InputError where it writes several."""
        return self._only(self.write_hooks, "writes")

    @property
    def has_several_sites(self) -> bool:
        """Whether the dictionary reads or writes more than one hook point, as cross-layer
        transcoders and crosscoders do."""
        return len(self.reads) > 1 or len(self.writes) > 1

    @property
    def is_transcoder(self) -> bool:
        """Whether the dictionary writes other hook points than those that it reads."""
        return self.read_hooks != self.write_hooks

    @property
    def hook_text(self) -> str:
        """The hook points in words: `A`, `A → B` for a transcoder, `A + B → C + D` for several."""
        reads, writes = " + ".join(self.read_hooks), " + ".join(self.write_hooks)
        return f"{reads} → {writes}" if self.is_transcoder else reads

    def _only(self, hooks: Sequence[str], does: str) -> str:
        if len(hooks) != 1:
            raise InputError(
                f"{self.site_owner} {does} {len(hooks)} hook points ({', '.join(hooks)}), and this "
                "needs a dictionary with one: choose an SAE or a transcoder of a single layer."
            )
        return hooks[0]


def check_single_sites(dictionaries: Sequence[SitedDictionary], purpose: str) -> None:
    """Raise InputError for a dictionary that reads or writes several hook points, which `purpose`
    (a plural noun, such as "Circuits") does not support."""
    for one in dictionaries:
        if one.has_several_sites:
            raise InputError(
                f"{purpose} do not support {one.site_owner}, which reads {len(one.reads)} and "
                f"writes {len(one.writes)} hook points ({one.hook_text}): choose dictionaries that "
                "read one hook point and write one."
            )
