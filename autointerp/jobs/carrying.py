"""What all jobs over features do alike: take up what was done, work on the rest, keep it as it
comes."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from autointerp.asking.rows import short
from autointerp.contexts import Sampled, TooFew
from autointerp.jobs.flow import Flow
from autointerp.jobs.gate import Gate
from autointerp.jobs.ledger import UNSTORABLE, Ledger, to_disk
from feature_store.records import FeatureId

Row = TypeVar("Row")
Drawn = tuple[FeatureId, Sampled | TooFew]


@dataclass(frozen=True)
class Done(Generic[Row]):
    """What came of one feature."""

    entry: dict[str, Any]
    """Its line in the ledger."""
    rows: tuple[Row, ...] = ()
    """For the catalog."""


class Counting(Protocol):
    """What a job comes to so far."""

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count one feature; done once more, the later time holds."""


async def carry(
    draw: Callable[[Collection[int], int], Iterator[Drawn]],
    work: Callable[[Drawn], Awaitable[Done[Row] | None]],
    keep: Callable[[Sequence[Row]], object],
    tally: Counting,
    ledger: Ledger,
    tick: Callable[[int], None],
    width: int,
    gate: Gate | None,
) -> None:
    """Work on the features that earlier runs left, and count theirs, too. `draw` gets those that
    are done, and how many of these had enough contexts.

    Ends early where the gate stops; raises what the store, the work or `tick` raises.
    """
    done, had = taken_up(ledger, tally)

    def write(batch: Sequence[Done[Row]]) -> None:
        with to_disk():
            keep([row for one in batch for row in one.rows])
            ledger.add(one.entry for one in batch)
        for one in batch:
            tally.add(one.entry)

    def sink(batch: Sequence[Done[Row]]) -> None:
        try:
            write(batch)
        except UNSTORABLE:  # one record is bad, the disk is not: find it, keep the others
            for one in batch:
                try:
                    write([one])
                except UNSTORABLE as error:
                    write([Done(unstorable_entry(one.entry, error))])

    await Flow(draw(done, had), work, sink, tick, width, gate).run()


def unstorable_entry(entry: Mapping[str, Any], error: Exception) -> dict[str, Any]:
    """Return the ledger's line of a feature whose results the store refused: all of it failed."""
    explained = dict.fromkeys(entry.get("explained", {}), "unstorable")
    found = {"feature": entry["feature"], "failed": 1, "unstorable": short(str(error))}
    if explained:
        found |= {"explained": explained, "failed": len(explained)}
    return found


def taken_up(ledger: Ledger, tally: Counting) -> tuple[set[int], int]:
    """Features that earlier runs did, and how many of these had enough contexts.

    What was not answered is done again, and so does not count.
    """
    state: dict[int, str] = {}
    for entry in ledger.entries():
        tally.add(entry)
        failed, skipped = entry.get("failed"), entry.get("skipped")
        state[entry["feature"]] = "failed" if failed else "skipped" if skipped else "done"
    done = {feature for feature, how in state.items() if how != "failed"}
    return done, sum(how == "done" for how in state.values())
