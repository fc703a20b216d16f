"""`list:NAME` and `failed:JOB` as numbers of features, which a job keeps whatever lists become."""

from autointerp.pipeline.feature_selection import select_features
from autointerp.pipeline.progress_log import ProgressLog
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.jobs import Jobs
from feature_store.number_ranges import join_ranges
from feature_store.store import Store


def pinned(store: Store, file: HarvestFile, dictionary: str, text: str) -> str:
    """The same features, said in a way that means them for good. InputError for none."""
    text = text.strip()
    kind, _, name = text.partition(":")
    if kind == "list":
        return join_ranges(in_list(store, dictionary, name))
    if kind == "failed":
        return join_ranges(failed(store, name))
    select_features(file, dictionary, text)
    return text


def in_list(store: Store, dictionary: str, name: str) -> list[int]:
    """A list's features of one dictionary, by the list's name or id."""
    lists = store.catalog.snapshot().lists.current
    found = [one for one in lists if name in (one.id, one.name)]
    if not found:
        there = ", ".join(one.name for one in lists[:12]) or "none"
        raise InputError(f"There is no list {name!r} in this store. There are: {there}.")
    if len(found) > 1:
        raise InputError(f"Several lists are called {name!r}. Name one by its id.")
    mine = [f.index for f in found[0].features if f.dictionary == dictionary]
    if not mine:
        raise InputError(f"The list {name!r} has no feature of {dictionary}.")
    return mine


def failed(store: Store, job_id: str) -> list[int]:
    """The features of which a job had no usable answer."""
    job = Jobs(store.path).get(job_id)
    found = ProgressLog(job.folder).failed() if not job.is_active else None
    if found is None:
        raise InputError(f"The job {job_id} is {job.state}. Wait until it ends.")
    if not found:
        raise InputError(f"Nothing failed in the job {job_id}: there is nothing to retry.")
    return found
