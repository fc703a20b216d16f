"""What all jobs over features do alike: take up what was done, work on the rest, keep it as it
comes."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from autointerp.contexts import FeatureSample, TooFewWindows
from autointerp.llm.call_rows import shorten_line
from autointerp.pipeline.pausable_asker import PausableAsker
from autointerp.pipeline.progress_log import UNSTORABLE_ERRORS, ProgressLog, report_disk_errors
from autointerp.pipeline.worker_pool import WorkerPool
from feature_store.records import FeatureId

Row = TypeVar("Row")
SampledOrTooFew = tuple[FeatureId, FeatureSample | TooFewWindows]


@dataclass(frozen=True)
class FeatureOutcome(Generic[Row]):
    """What came of one feature."""

    entry: dict[str, Any]
    """Its line in the ledger."""
    rows: tuple[Row, ...] = ()
    """For the catalog."""


class EntryCounter(Protocol):
    """What a job comes to so far."""

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count one feature; done once more, the later time holds."""


async def run_resumable(
    draw: Callable[[Collection[int], int], Iterator[SampledOrTooFew]],
    work: Callable[[SampledOrTooFew], Awaitable[FeatureOutcome[Row] | None]],
    keep: Callable[[Sequence[Row]], object],
    tally: EntryCounter,
    ledger: ProgressLog,
    tick: Callable[[int], None],
    width: int,
    gate: PausableAsker | None,
) -> None:
    """Work on the features that earlier runs left, and count theirs, too. `draw` gets those that
    are done, and how many of these had enough contexts.

    Ends early where the gate stops; raises what the store, the work or `tick` raises.
    """
    done, had = read_progress(ledger, tally)

    def write(batch: Sequence[FeatureOutcome[Row]]) -> None:
        with report_disk_errors():
            keep([row for one in batch for row in one.rows])
            ledger.add(one.entry for one in batch)
        for one in batch:
            tally.add(one.entry)

    def sink(batch: Sequence[FeatureOutcome[Row]]) -> None:
        try:
            write(batch)
        except UNSTORABLE_ERRORS:  # one record is bad, the disk is not: find it, keep the others
            for one in batch:
                try:
                    write([one])
                except UNSTORABLE_ERRORS as error:
                    write([FeatureOutcome(unstorable_entry(one.entry, error))])

    await WorkerPool(draw(done, had), work, sink, tick, width, gate).run()


def unstorable_entry(entry: Mapping[str, Any], error: Exception) -> dict[str, Any]:
    """Return the ledger's line of a feature whose results the store refused: all of it failed."""
    explained = dict.fromkeys(entry.get("explained", {}), "unstorable")
    found = {"feature": entry["feature"], "failed": 1, "unstorable": shorten_line(str(error))}
    if explained:
        found |= {"explained": explained, "failed": len(explained)}
    return found


def read_progress(ledger: ProgressLog, tally: EntryCounter) -> tuple[set[int], int]:
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
