"""What an explainer is shown of a feature, and what a judge is asked about it.

Explainers see the `explain` split only and judges the `score` split only; the harvest deals whole
groups of near-duplicate documents to one of them, and `sample` asserts that none is on both sides.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import pyarrow as pa

from autointerp.silent_negatives import SilentWindows, get_silent_windows, overlaps_any
from autointerp.text_windows import TextWindow, TooFewWindows, make_window, split_by_sign
from feature_store.context_strata import find_decile
from feature_store.harvest_reader import CONTEXT_COLUMNS, HarvestFile
from feature_store.records import Context, FeatureFacts, FeatureId, SignStatistics, Split

__all__ = [
    "TextWindow",
    "FeatureSample",
    "TooFewWindows",
    "SampleSettings",
    "sample_feature",
    "sample_features",
]

MIN_WINDOWS = 20
"""Windows of a class below which nothing is scored."""
MIN_EXPLAIN_WINDOWS = 5
"""Firing windows of the explain split below which there is nothing to explain from."""
FEATURES_PER_READ = 256
"""Features whose contexts are read at once."""
FeatureSign = Literal["both", "positive", "negative"]
SIDES = ("positive", "negative")
RandomAndHard = tuple[tuple[TextWindow, ...], tuple[TextWindow, ...]]


@dataclass(frozen=True)
class FeatureSample:
    """Everything that jobs use of one feature."""

    feature: FeatureId
    facts: FeatureFacts
    promoted: tuple[str, ...]
    """Tokens that it makes likelier by the logit lens, strongest first."""
    suppressed: tuple[str, ...]
    explain: tuple[TextWindow, ...]
    """Explain split, to be shown: top windows first, then deciles, strongest first."""
    positives: tuple[TextWindow, ...]
    """Score split, firing. Deciles are a random sample with weights; top ones are not."""
    random: tuple[TextWindow, ...]
    """Score split, silent: drawn at random from all silent windows of the pool."""
    hard: tuple[TextWindow, ...]
    """Score split, silent: those most like the top windows. May repeat some of `random`."""
    explain_more: tuple[TextWindow, ...] = ()
    """Explain split, firing, from documents of which nothing is in `explain`: to choose by."""
    explain_random: tuple[TextWindow, ...] = ()
    explain_hard: tuple[TextWindow, ...] = ()
    other: tuple[TextWindow, ...] = ()
    """Score split, one side of a signed feature only: windows where just the other side fires."""
    top_token: str | None = None
    """The token that it fires on most often, over the harvest."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SampleSettings:
    """How many windows of which kind, drawn by which seed."""

    n_explain: int = 20
    n_positive: int = 50
    n_negative: int = 50
    seed: int = 0
    sign: FeatureSign = "both"
    shown: bool = True
    """Whether windows of the explain split are made, or only counted: judges see none."""
    beside: bool = True
    """Whether silent windows and `explain_more` are among these: most explainers see none."""
    scored: bool = True
    """Whether windows of the score split are made, or only counted: explainers see none."""


def sample_feature(
    file: HarvestFile,
    feature: FeatureId,
    *,
    n_explain: int = 20,
    n_positive: int = 50,
    n_negative: int = 50,
    seed: int = 0,
    sign: FeatureSign = "both",
) -> FeatureSample:
    """The windows of one feature: the same for the same seed, on every machine.

    `sign` takes one side of a signed feature; the other side's windows are then in `other`.
    Raises TooFew with the reason, InputError for a feature that does not exist.
    """
    file.check(feature)
    wanted = SampleSettings(n_explain, n_positive, n_negative, seed, sign)
    found = draw_windows(file, file.facts(feature), file.contexts(feature), wanted)
    if isinstance(found, TooFewWindows):
        raise found
    return found


def sample_features(
    file: HarvestFile,
    dictionary: str,
    features: Iterable[int],
    wanted: SampleSettings | None = None,
) -> Iterator[tuple[FeatureId, FeatureSample | TooFewWindows]]:
    """`sample` for many features, in the order given, by a few large reads; raises no TooFew."""
    indices = list(features)
    for begin in range(0, len(indices), FEATURES_PER_READ):
        block = [
            file.check(FeatureId(dictionary, i)) for i in indices[begin : begin + FEATURES_PER_READ]
        ]
        here = [one.index for one in block]
        facts, contexts = (
            read_feature_facts(file, dictionary, here),
            read_stored_contexts(file, dictionary, here),
        )
        for one in block:
            stored = contexts.get(one.index, [])
            yield one, draw_windows(file, facts[one.index], stored, wanted or SampleSettings())


def read_feature_facts(
    file: HarvestFile, dictionary: str, features: list[int]
) -> dict[int, FeatureFacts]:
    """The facts of many features by one read, wherever in the dictionary they are."""
    names = [field.name for field in fields(FeatureFacts)]
    table = file.rows(
        f"SELECT {', '.join(names)} FROM feature SEMI JOIN wanted USING (feature) "
        "WHERE dictionary = ? AND feature BETWEEN ? AND ?",
        [dictionary, min(features), max(features)],
        {"wanted": make_feature_table(features)},
    )
    rows = [
        row | {s: SignStatistics(**row[s]) if row[s] else None for s in SIDES}
        for row in table.to_pylist()
    ]
    return {row["feature"]: FeatureFacts(**row) for row in rows}


def read_stored_contexts(
    file: HarvestFile, dictionary: str, features: list[int]
) -> dict[int, list[Context]]:
    """The stored contexts of many features, each in stored order."""
    names = [field.name for field in fields(Context)]
    table = file.rows(
        f"SELECT feature, {CONTEXT_COLUMNS} FROM context SEMI JOIN wanted USING (feature) "
        "WHERE dictionary = ? AND feature BETWEEN ? AND ? ORDER BY context.rowid",
        [dictionary, min(features), max(features)],
        {"wanted": make_feature_table(features)},
    )
    columns = [table.column(name).to_pylist() for name in names]
    found: dict[int, list[Context]] = {}
    for feature, *row in zip(table.column("feature").to_pylist(), *columns, strict=True):
        found.setdefault(feature, []).append(Context(*row))
    return found


def make_feature_table(features: Iterable[int]) -> pa.Table:
    """A table of features, to be joined with."""
    return pa.table({"feature": pa.array(sorted(set(features)), pa.int32())})


def draw_windows(
    file: HarvestFile, facts: FeatureFacts, stored: list[Context], wanted: SampleSettings
) -> FeatureSample | TooFewWindows:
    """The draw itself, from a feature's stored contexts."""
    feature = FeatureId(facts.dictionary, facts.feature)
    if not stored or facts.window_histogram is None:
        return TooFewWindows(
            "dead", f"{feature} never fired in the harvest, so it cannot be explained."
        )
    signed = file.dictionaries[feature.dictionary].signed
    mine, others = split_by_sign(stored, wanted.sign) if signed else (stored, [])
    pool = get_silent_windows(file, feature.dictionary)
    dice = np.random.default_rng([wanted.seed, feature.index])
    shown = choose_windows_to_explain(
        [c for c in mine if c.split == "explain"], wanted.n_explain, dice
    )
    asked = choose_windows_to_score(
        [c for c in mine if c.split == "score"], wanted.n_positive, dice
    )
    if problem := find_too_few(feature, shown, asked, pool):
        return problem
    return make_feature_sample(file, facts, (mine, others), (shown, asked), wanted, pool)


def choose_windows_to_explain(
    stored: list[Context], n: int, dice: np.random.Generator
) -> list[tuple[Context, None]]:
    """Half strongest windows, half over the range; more of one where the other gives out."""
    tops = strongest_contexts(stored)
    ranged = [c for c in stored if c.stratum == "range" and not overlaps_any(c, tops)]
    n_ranged = min(len(ranged), max(n - n // 2, n - len(tops)))
    few = tops[: n - n_ranged]
    return [
        (c, None) for c in [*few, *(ranged[i] for i in evenly_spaced(len(ranged), n_ranged, dice))]
    ]


def choose_windows_to_score(
    stored: list[Context], n: int, dice: np.random.Generator
) -> list[tuple[Context, float | None]]:
    """Windows over the range with the number that each stands for, then strongest ones.

    The range is taken whole or thinned evenly along the activation, which keeps it a random sample
    of known weights; a strongest window that it holds already is left out.
    """
    ranged = [c for c in stored if c.stratum == "range"]
    kept = [ranged[i] for i in evenly_spaced(len(ranged), min(len(ranged), n - n // 3), dice)]
    more = len(ranged) / max(len(kept), 1)
    tops = [c for c in strongest_contexts(stored) if not overlaps_any(c, kept)][: n - len(kept)]
    weighted = [(c, c.weight * more if c.weight is not None else None) for c in kept]
    return [*weighted, *((c, None) for c in tops)]


def strongest_contexts(stored: list[Context]) -> list[Context]:
    """Top and bottom windows by rank, signs by turns; none that overlaps a stronger one."""
    kept: list[Context] = []
    for context in sorted((c for c in stored if c.stratum != "range"), key=lambda c: c.rank):
        if not overlaps_any(context, kept):
            kept.append(context)
    return kept


def evenly_spaced(n: int, m: int, dice: np.random.Generator) -> list[int]:
    """`m` of `n` numbers at even steps from a random begin: each with probability m / n."""
    return np.floor((np.arange(m) + dice.random()) * (n / max(m, 1))).astype(int).tolist()


def find_too_few(
    feature: FeatureId, shown: Sequence[object], asked: Sequence[object], pool: SilentWindows
) -> TooFewWindows | None:
    """Why a feature cannot be explained and scored, or None."""
    if len(shown) < MIN_EXPLAIN_WINDOWS:
        return TooFewWindows(
            "few", f"{feature} has only {len(shown)} firing windows to explain from."
        )
    if len(asked) < MIN_WINDOWS:
        return TooFewWindows(
            "few",
            f"{feature} has only {len(asked)} firing windows to be scored on, not {MIN_WINDOWS}.",
        )
    for split in ("explain", "score"):
        n = len(pool.silent(feature.index, split))
        if n < MIN_WINDOWS:
            return TooFewWindows(
                "dense",
                f"{feature} is too dense for detection: silent in {n} of the pool's "
                f"{pool.size(split)} windows of the {split} split, not {MIN_WINDOWS}.",
            )
    return None


def make_feature_sample(
    file: HarvestFile,
    facts: FeatureFacts,
    stored: tuple[list[Context], list[Context]],
    drawn: tuple[list[tuple[Context, None]], list[tuple[Context, float | None]]],
    wanted: SampleSettings,
    pool: SilentWindows,
) -> FeatureSample:
    """The drawn windows with their text, the silent ones beside them, and the splits asserted."""
    mine, others = stored
    shown, asked = drawn

    def texts(rows: Iterable[tuple[Context, float | None]]) -> tuple[TextWindow, ...]:
        return tuple(
            make_window(file, c, window_kind(facts, c), weight, wanted.sign) for c, weight in rows
        )

    def silent(split: Split, firing: list[Context]) -> RandomAndHard:
        like = pool.like([c for c in firing if c.stratum != "range"] or firing)
        return pool.draw(facts.feature, split, like, wanted.n_negative, wanted.seed)

    seen = {c.document for c, _ in shown}
    mine_shown = [c for c in mine if c.split == "explain"]
    more = [c for c in mine_shown if c.document not in seen]
    # What an explainer is shown follows from its own split alone, down to what looks like what.
    near = silent("explain", mine_shown) if wanted.shown and wanted.beside else ((), ())
    random, hard = silent("score", mine) if wanted.scored else ((), ())
    rest = [c for c in others if c.split == "score"][: wanted.n_negative]
    words = file.vocabulary.text
    return FeatureSample(
        FeatureId(facts.dictionary, facts.feature),
        facts,
        tuple(words(token) for token in facts.promoted_tokens or ()),
        tuple(words(token) for token in facts.suppressed_tokens or ()),
        texts(shown if wanted.shown else ()),
        texts(asked if wanted.scored else ()),
        random,
        hard,
        texts((c, None) for c in more if wanted.shown and wanted.beside),
        *near,
        tuple(make_window(file, c, "other side", c.weight) for c in rest if wanted.scored),
        words(facts.top_token) if facts.top_token is not None else None,
        assert_splits_disjoint(file, mine, pool),
    )


def window_kind(facts: FeatureFacts, context: Context) -> str:
    """`top`, or `decile 1` (weakest firing windows) to `decile 10`; by |value|."""
    return f"decile {find_decile(facts, context.value)}" if context.stratum == "range" else "top"


def assert_splits_disjoint(
    file: HarvestFile, stored: list[Context], pool: SilentWindows
) -> tuple[str, ...]:
    """Asserts that no document is on both sides; a note where a small corpus makes it so.

    A harvest of fewer than 20 documents splits each by blocks: then no sequence is on both sides.
    """
    documents = {s: {c.document for c in stored if c.split == s} for s in ("explain", "score")}
    sides = {s: documents[s] | pool.documents(s) for s in documents}
    if not sides["explain"] & sides["score"]:
        return ()
    if pool.few_documents:
        return ("The corpus has few documents, so both splits hold parts of the same ones.",)
    raise AssertionError(f"{file.path.name}: a document is in both splits")
