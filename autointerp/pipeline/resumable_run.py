"""The resumable run that all jobs over features share: skip the features that the progress log
lists as done, process the rest in a worker pool, and store each result as it comes."""

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
"""A feature with its sampled text windows, or with the reason why it has too few."""


@dataclass(frozen=True)
class FeatureOutcome(Generic[Row]):
    """Result of one feature in a resumable run: its entry for the progress log, and rows for the
    catalog."""

    entry: dict[str, Any]
    """The feature's entry in the progress log."""
    rows: tuple[Row, ...] = ()
    """Rows to store in the catalog."""


class EntryCounter(Protocol):
    """Protocol of the running totals of a resumable run, which count entries of the progress
    log."""

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count the progress log entry of one feature in the totals of the run; a later entry of
        the same feature replaces the earlier one."""


async def run_resumable(
    draw: Callable[[Collection[int], int], Iterator[SampledOrTooFew]],
    work: Callable[[SampledOrTooFew], Awaitable[FeatureOutcome[Row] | None]],
    keep: Callable[[Sequence[Row]], object],
    tally: EntryCounter,
    progress_log: ProgressLog,
    tick: Callable[[int], None],
    width: int,
    asker: PausableAsker | None,
) -> None:
    """Process the features of a job that its earlier runs left over, store their results, and count
    the progress log entries of all runs in `tally`.

    `draw` is called with the features that are done and with how many of these had enough contexts.
    Ends early where the asker has stopped; raises what the store, `work` or `tick` raises.
    """
    done, had = read_progress(progress_log, tally)

    def write(batch: Sequence[FeatureOutcome[Row]]) -> None:
        with report_disk_errors():
            # the catalog first: an entry in the progress log says that the results are stored
            keep([row for one in batch for row in one.rows])
            progress_log.add(one.entry for one in batch)
        for one in batch:
            tally.add(one.entry)

    def sink(batch: Sequence[FeatureOutcome[Row]]) -> None:
        try:
            write(batch)
        except (
            UNSTORABLE_ERRORS
        ):  # one record is invalid, not the disk: store the others one by one
            for one in batch:
                try:
                    write([one])
                except UNSTORABLE_ERRORS as error:
                    write([FeatureOutcome(unstorable_entry(one.entry, error))])

    await WorkerPool(draw(done, had), work, sink, tick, width, asker).run()


def unstorable_entry(entry: Mapping[str, Any], error: Exception) -> dict[str, Any]:
    """Return the progress log entry of a feature whose results the store refused during a run: all
    of them failed."""
    explained = dict.fromkeys(entry.get("explained", {}), "unstorable")
    found = {"feature": entry["feature"], "failed": 1, "unstorable": shorten_line(str(error))}
    if explained:
        found |= {"explained": explained, "failed": len(explained)}
    return found


def read_progress(progress_log: ProgressLog, tally: EntryCounter) -> tuple[set[int], int]:
    """Return the features that earlier runs of the job finished, and how many of these had enough
    contexts.

    A feature with failed questions is processed again, so it does not count as finished.
    """
    state: dict[int, str] = {}
    for entry in progress_log.entries():
        tally.add(entry)
        failed, skipped = entry.get("failed"), entry.get("skipped")
        state[entry["feature"]] = "failed" if failed else "skipped" if skipped else "done"
    done = {feature for feature, how in state.items() if how != "failed"}
    return done, sum(how == "done" for how in state.values())
