"""Selection of the features of a job by the option `--features`: `top:500`, `all`, or numbers such
as `1,2,30-40`."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from autointerp.contexts import (
    MIN_EXPLAIN_WINDOWS,
    MIN_WINDOWS,
    FeatureSample,
    SampleSettings,
    TooFewWindows,
    sample_features,
)
from autointerp.silent_negatives import get_silent_windows
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId

NUMBER_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
STORED_WINDOWS_SQL = """
    SELECT feature, count(*) FILTER (split = 'explain') AS shown,
           count(*) FILTER (split = 'score') AS asked
    FROM (SELECT DISTINCT feature, split, sequence, start FROM context WHERE dictionary = ?)
    GROUP BY feature
"""
SELECTION_FORMS = "Write top:N, all, list:NAME, failed:JOB, or numbers such as 1,2,30-40."


@dataclass(frozen=True)
class FeatureSelection:
    """The features selected for a job, in the order in which they are processed."""

    order: np.ndarray
    """Feature indices, int64."""
    enough: int | None = None
    """Number of features with enough contexts after which the job ends; None to process all."""

    @property
    def total(self) -> int:
        """Number of selected features that a job processes, including those that turn out to have
        too few contexts."""
        return len(self.order) if self.enough is None else min(self.enough, len(self.order))


def select_features(file: HarvestFile, dictionary: str, text: str) -> FeatureSelection:
    """Return the features that a `--features` text selects. Raises InputError for a text that
    selects none, or features that do not exist.

    The forms `list:` and `failed:` need lists and jobs, so the caller resolves them.
    """
    d_sae = file.dictionary(dictionary).d_sae
    text = text.strip()
    if text == "all":
        return FeatureSelection(np.arange(d_sae))
    if text.startswith("top:"):
        n = text.removeprefix("top:")
        if not (n.isascii() and n.isdecimal() and int(n) > 0):
            raise InputError(f"--features {text} has no number of features: write top:500.")
        return FeatureSelection(most_active_features(file, dictionary), int(n))
    indices = parse_feature_numbers(text)
    for index in indices:
        file.check_feature(FeatureId(dictionary, index))
    return FeatureSelection(np.array(indices, np.int64))


def most_active_features(file: HarvestFile, dictionary: str) -> np.ndarray:
    """Return the features that fired in the harvest, the most frequently active first."""
    query = (
        "SELECT feature FROM feature WHERE dictionary = ? AND n_active > 0 "
        "ORDER BY n_active DESC, feature"
    )
    return file.rows(query, [dictionary]).column("feature").to_numpy().astype(np.int64)


def parse_feature_numbers(text: str) -> list[int]:
    """Return the feature numbers of a text such as `3,8-10` (here 3, 8, 9, 10), each once, in
    order."""
    found: dict[int, None] = {}
    for part in text.split(","):
        match = NUMBER_RANGE.fullmatch(part.strip())
        if match is None:
            raise InputError(f"--features {text!r} names no features. {SELECTION_FORMS}")
        low, high = int(match[1]), int(match[2] or match[1])
        if high < low:
            raise InputError(
                f"--features {part.strip()} runs backwards: write {high}-{low}, the lower number "
                "first."
            )
        if high - low >= 1_000_000:
            raise InputError(f"--features {part} is more than a dictionary has.")
        found |= dict.fromkeys(range(low, high + 1))
    return list(found)


def features_with_enough_windows(
    file: HarvestFile, dictionary: str, selection: FeatureSelection
) -> np.ndarray:
    """Return the selected features that have enough stored windows to be explained and scored.

    This predicts which features `sample_selected_features` gives, except for some with barely
    enough windows, of which a few overlap.
    """
    d_sae, pool = file.dictionary(dictionary).d_sae, get_silent_windows(file, dictionary)
    table = file.rows(STORED_WINDOWS_SQL, [dictionary])
    n_explain, n_score = np.zeros(d_sae, np.int64), np.zeros(d_sae, np.int64)
    for name, counts in (("shown", n_explain), ("asked", n_score)):
        counts[table.column("feature").to_numpy()] = table.column(name).to_numpy()
    # both splits need enough silent windows
    n_silent = np.minimum(
        *(pool.count_silent_windows(d_sae, split) for split in ("explain", "score"))
    )
    good = (n_explain >= MIN_EXPLAIN_WINDOWS) & (n_score >= MIN_WINDOWS) & (n_silent >= MIN_WINDOWS)
    return selection.order[good[selection.order]][: selection.enough]


def sample_selected_features(
    file: HarvestFile,
    dictionary: str,
    selection: FeatureSelection,
    settings: SampleSettings,
    done: Collection[int] = (),
    n_done_enough: int = 0,
) -> Iterator[tuple[FeatureId, FeatureSample | TooFewWindows]]:
    """Yield each selected feature with its sampled text windows, or with the reason why it has too
    few; without the features in `done`.

    Ends when the selection's number of features with enough contexts is reached, of which earlier
    runs of the job processed `n_done_enough`.
    """
    left = [i for i in selection.order.tolist() if i not in done]
    enough = len(left) if selection.enough is None else selection.enough - n_done_enough
    for feature, found in sample_features(file, dictionary, left, settings):
        if enough <= 0:
            return
        enough -= isinstance(found, FeatureSample)
        yield feature, found
