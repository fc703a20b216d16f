"""Which features a job is about: `top:500`, `all`, or numbers such as `1,2,30-40`."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from autointerp.contexts import ENOUGH, ENOUGH_SHOWN, Sampled, TooFew, Wanted, sample_many
from autointerp.quiet import pool_of
from feature_store.errors import InputError
from feature_store.reader import HarvestFile
from feature_store.records import FeatureId

PART = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
STORED = """
    SELECT feature, count(*) FILTER (split = 'explain') AS shown,
           count(*) FILTER (split = 'score') AS asked
    FROM (SELECT DISTINCT feature, split, sequence, start FROM context WHERE dictionary = ?)
    GROUP BY feature
"""
FORMS = "Write top:N, all, list:NAME, failed:JOB, or numbers such as 1,2,30-40."


@dataclass(frozen=True)
class Choice:
    """Features in the order in which they are taken."""

    order: np.ndarray
    """Indices, int64."""
    enough: int | None = None
    """After so many that have enough contexts the rest is left alone; None: all are taken."""

    @property
    def total(self) -> int:
        """How many are to be done, but for those that turn out to have too few contexts."""
        return len(self.order) if self.enough is None else min(self.enough, len(self.order))


def choose(file: HarvestFile, dictionary: str, text: str) -> Choice:
    """The features that a text names. InputError for one that names none, or some that are not
    there. `list:` and `failed:` are for whoever knows lists and jobs."""
    d_sae = file.dictionary(dictionary).d_sae
    text = text.strip()
    if text == "all":
        return Choice(np.arange(d_sae))
    if text.startswith("top:"):
        n = text.removeprefix("top:")
        if not (n.isascii() and n.isdecimal() and int(n) > 0):
            raise InputError(f"--features {text} has no number of features: write top:500.")
        return Choice(most_active(file, dictionary), int(n))
    indices = numbers(text)
    for index in indices:
        file.check(FeatureId(dictionary, index))
    return Choice(np.array(indices, np.int64))


def most_active(file: HarvestFile, dictionary: str) -> np.ndarray:
    """Features that fired, the most often active first."""
    query = (
        "SELECT feature FROM feature WHERE dictionary = ? AND n_active > 0 "
        "ORDER BY n_active DESC, feature"
    )
    return file.rows(query, [dictionary]).column("feature").to_numpy().astype(np.int64)


def numbers(text: str) -> list[int]:
    """`3,8-10` as 3, 8, 9, 10, each once, in order of mention."""
    found: dict[int, None] = {}
    for part in text.split(","):
        match = PART.fullmatch(part.strip())
        if match is None:
            raise InputError(f"--features {text!r} names no features. {FORMS}")
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


def foreseen(file: HarvestFile, dictionary: str, choice: Choice) -> np.ndarray:
    """The features that a job will take, by how many windows are stored of each: as `drawn` has
    them, but for some that have barely enough, of which a few overlap."""
    d_sae, pool = file.dictionary(dictionary).d_sae, pool_of(file, dictionary)
    table = file.rows(STORED, [dictionary])
    shown, asked = np.zeros(d_sae, np.int64), np.zeros(d_sae, np.int64)
    for name, counts in (("shown", shown), ("asked", asked)):
        counts[table.column("feature").to_numpy()] = table.column(name).to_numpy()
    quiet = np.minimum(*(pool.silences(d_sae, split) for split in ("explain", "score")))
    good = (shown >= ENOUGH_SHOWN) & (asked >= ENOUGH) & (quiet >= ENOUGH)
    return choice.order[good[choice.order]][: choice.enough]


def drawn(
    file: HarvestFile,
    dictionary: str,
    choice: Choice,
    wanted: Wanted,
    done: Collection[int] = (),
    had: int = 0,
) -> Iterator[tuple[FeatureId, Sampled | TooFew]]:
    """The windows of the chosen features, less those `done`, of which `had` had enough contexts."""
    left = [i for i in choice.order.tolist() if i not in done]
    enough = len(left) if choice.enough is None else choice.enough - had
    for feature, found in sample_many(file, dictionary, left, wanted):
        if enough <= 0:
            return
        enough -= isinstance(found, Sampled)
        yield feature, found
