"""Sampling of a feature's contexts: the text windows that an explainer is shown, and those that a
judge is asked about.

Explainers see the `explain` split only and judges the `score` split only; the harvest assigns whole
groups of near-duplicate documents to one of them, and sampling asserts that no document is in both.
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
"""Number of windows of a class below which a feature is not scored."""
MIN_EXPLAIN_WINDOWS = 5
"""Number of firing windows of the explain split below which a feature is not explained."""
FEATURES_PER_READ = 256
"""Number of features whose contexts are read at once."""
FeatureSign = Literal["both", "positive", "negative"]
SIDES = ("positive", "negative")
RandomAndHard = tuple[tuple[TextWindow, ...], tuple[TextWindow, ...]]


@dataclass(frozen=True)
class FeatureSample:
    """Sample of one feature's contexts: all text windows that explain and score jobs use of it, by
    split and kind."""

    feature: FeatureId
    facts: FeatureFacts
    promoted: tuple[str, ...]
    """Tokens whose logits the feature increases most by the logit lens, strongest first."""
    suppressed: tuple[str, ...]
    explain: tuple[TextWindow, ...]
    """Windows of the explain split to show to explainers: top windows first, then deciles,
    strongest first."""
    positives: tuple[TextWindow, ...]
    """Firing windows of the score split. Those of deciles are a random sample with weights, top
    windows are not."""
    random: tuple[TextWindow, ...]
    """Silent windows of the score split, drawn at random from all silent windows of the pool."""
    hard: tuple[TextWindow, ...]
    """Silent windows of the score split that are most similar to the top windows. May repeat some
    of `random`."""
    explain_more: tuple[TextWindow, ...] = ()
    """Firing windows of the explain split from documents that do not occur in `explain`, for
    choosing among candidate explanations."""
    explain_random: tuple[TextWindow, ...] = ()
    explain_hard: tuple[TextWindow, ...] = ()
    other: tuple[TextWindow, ...] = ()
    """Windows of the score split in which only the other sign of a signed feature fires."""
    top_token: str | None = None
    """Token on which the feature fires most often, over the whole harvest."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SampleSettings:
    """Settings of context sampling: how many windows of which kind, for which sign, and the
    seed."""

    n_explain: int = 20
    n_positive: int = 50
    n_negative: int = 50
    seed: int = 0
    sign: FeatureSign = "both"
    shown: bool = True
    """Whether windows of the explain split are built, or only counted: judges see none."""
    with_silent: bool = True
    """Whether silent windows and `explain_more` are built too: most explainers see none."""
    scored: bool = True
    """Whether windows of the score split are built, or only counted: explainers see none."""


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
    """Sample the contexts of one feature: the same windows for the same seed on every machine.

    `sign` selects one sign of a signed feature; windows of the other sign are then in `other`.
    Raises TooFewWindows with the reason, InputError for a feature that does not exist.
    """
    file.check_feature(feature)
    settings = SampleSettings(n_explain, n_positive, n_negative, seed, sign)
    found = draw_windows(file, file.facts(feature), file.contexts(feature), settings)
    if isinstance(found, TooFewWindows):
        raise found
    return found


def sample_features(
    file: HarvestFile,
    dictionary: str,
    features: Iterable[int],
    settings: SampleSettings | None = None,
) -> Iterator[tuple[FeatureId, FeatureSample | TooFewWindows]]:
    """Yield the sampled contexts of many features, in the order given, using a few large reads; a
    feature with too few windows is yielded with the reason and not raised."""
    indices = list(features)
    for begin in range(0, len(indices), FEATURES_PER_READ):
        block = [
            file.check_feature(FeatureId(dictionary, i))
            for i in indices[begin : begin + FEATURES_PER_READ]
        ]
        here = [one.index for one in block]
        facts, contexts = (
            read_feature_facts(file, dictionary, here),
            read_stored_contexts(file, dictionary, here),
        )
        for one in block:
            stored = contexts.get(one.index, [])
            yield one, draw_windows(file, facts[one.index], stored, settings or SampleSettings())


def read_feature_facts(
    file: HarvestFile, dictionary: str, features: list[int]
) -> dict[int, FeatureFacts]:
    """Return feature → its facts in the harvest (density, largest activation, histograms and other
    statistics) for many features of a dictionary by one read, for sampling their contexts."""
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
    """Return feature → the contexts that the harvest stored for it (windows around sampled
    activations), in stored order, for many features by one read; features without any are
    absent."""
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
    """Return an Arrow table of feature numbers to join with stored contexts in SQL."""
    return pa.table({"feature": pa.array(sorted(set(features)), pa.int32())})


def draw_windows(
    file: HarvestFile, facts: FeatureFacts, stored: list[Context], settings: SampleSettings
) -> FeatureSample | TooFewWindows:
    """Draw the text windows of one feature's sample from its stored contexts and the pool of silent
    windows; or return the error that says why there are too few."""
    feature = FeatureId(facts.dictionary, facts.feature)
    if not stored or facts.window_histogram is None:
        return TooFewWindows(
            "dead", f"{feature} never fired in the harvest, so it cannot be explained."
        )
    signed = file.dictionaries[feature.dictionary].signed
    mine, others = split_by_sign(stored, settings.sign) if signed else (stored, [])
    pool = get_silent_windows(file, feature.dictionary)
    generator = np.random.default_rng([settings.seed, feature.index])
    shown = choose_windows_to_explain(
        [c for c in mine if c.split == "explain"], settings.n_explain, generator
    )
    scored = choose_windows_to_score(
        [c for c in mine if c.split == "score"], settings.n_positive, generator
    )
    if problem := find_too_few(feature, shown, scored, pool):
        return problem
    return make_feature_sample(file, facts, (mine, others), (shown, scored), settings, pool)


def choose_windows_to_explain(
    stored: list[Context], n: int, generator: np.random.Generator
) -> list[tuple[Context, None]]:
    """Choose the contexts that explainers are shown: half of them the strongest, half spread over
    the activation range; more of one where the other runs out."""
    tops = strongest_contexts(stored)
    ranged = [c for c in stored if c.stratum == "range" and not overlaps_any(c, tops)]
    n_ranged = min(len(ranged), max(n - n // 2, n - len(tops)))
    few = tops[: n - n_ranged]
    return [
        (c, None)
        for c in [*few, *(ranged[i] for i in evenly_spaced(len(ranged), n_ranged, generator))]
    ]


def choose_windows_to_score(
    stored: list[Context], n: int, generator: np.random.Generator
) -> list[tuple[Context, float | None]]:
    """Choose the contexts that judges are asked about: contexts over the activation range, each
    with the number of windows that it represents, then the strongest ones.

    Contexts over the range are taken completely or thinned evenly along the activation, which keeps
    them a random sample with known weights; a strongest context that is among them is left out.
    """
    ranged = [c for c in stored if c.stratum == "range"]
    kept = [ranged[i] for i in evenly_spaced(len(ranged), min(len(ranged), n - n // 3), generator)]
    # each kept context represents the thinned-out ones, too
    more = len(ranged) / max(len(kept), 1)
    tops = [c for c in strongest_contexts(stored) if not overlaps_any(c, kept)][: n - len(kept)]
    weighted = [(c, c.weight * more if c.weight is not None else None) for c in kept]
    return [*weighted, *((c, None) for c in tops)]


def strongest_contexts(stored: list[Context]) -> list[Context]:
    """Return a feature's stored contexts of the strata `top` and `bottom` (strongest positive and
    negative activations) by rank, alternating signs, without any that overlaps a stronger one."""
    kept: list[Context] = []
    for context in sorted((c for c in stored if c.stratum != "range"), key=lambda c: c.rank):
        if not overlaps_any(context, kept):
            kept.append(context)
    return kept


def evenly_spaced(n: int, m: int, generator: np.random.Generator) -> list[int]:
    """Return `m` of the numbers 0 … n − 1 at even steps from a random start, to thin contexts out:
    each with probability m / n."""
    return np.floor((np.arange(m) + generator.random()) * (n / max(m, 1))).astype(int).tolist()


def find_too_few(
    feature: FeatureId, shown: Sequence[object], scored: Sequence[object], pool: SilentWindows
) -> TooFewWindows | None:
    """Return the error that says why a feature has too few sampled contexts or silent windows to be
    explained and scored; None where there are enough."""
    if len(shown) < MIN_EXPLAIN_WINDOWS:
        return TooFewWindows(
            "few", f"{feature} has only {len(shown)} firing windows to explain from."
        )
    if len(scored) < MIN_WINDOWS:
        return TooFewWindows(
            "few",
            f"{feature} has only {len(scored)} firing windows to be scored on, not {MIN_WINDOWS}.",
        )
    for split in ("explain", "score"):
        n = len(pool.silent_window_numbers(feature.index, split))
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
    settings: SampleSettings,
    pool: SilentWindows,
) -> FeatureSample:
    """Build a feature's sample: the text of the drawn contexts, silent windows, and a check that
    the splits are disjoint."""
    mine, others = stored
    shown, scored = drawn

    def texts(rows: Iterable[tuple[Context, float | None]]) -> tuple[TextWindow, ...]:
        """Return sampled contexts, each with its weight, as text windows of their kind (`top` or a
        decile of activation)."""
        return tuple(
            make_window(file, c, window_kind(facts, c), weight, settings.sign) for c, weight in rows
        )

    def silent(split: Split, firing: list[Context]) -> RandomAndHard:
        """Return the random and the hard silent windows of one split for the feature's sample; hard
        ones are those most similar to its `firing` contexts."""
        likeness = pool.likeness_to([c for c in firing if c.stratum != "range"] or firing)
        return pool.draw(facts.feature, split, likeness, settings.n_negative, settings.seed)

    seen = {c.document for c, _ in shown}
    mine_shown = [c for c in mine if c.split == "explain"]
    more = [c for c in mine_shown if c.document not in seen]
    # an explainer sees its own split only, so its hard negatives are chosen by that split, too
    near = silent("explain", mine_shown) if settings.shown and settings.with_silent else ((), ())
    random, hard = silent("score", mine) if settings.scored else ((), ())
    rest = [c for c in others if c.split == "score"][: settings.n_negative]
    words = file.vocabulary.text
    return FeatureSample(
        FeatureId(facts.dictionary, facts.feature),
        facts,
        tuple(words(token) for token in facts.promoted_tokens or ()),
        tuple(words(token) for token in facts.suppressed_tokens or ()),
        texts(shown if settings.shown else ()),
        texts(scored if settings.scored else ()),
        random,
        hard,
        texts((c, None) for c in more if settings.shown and settings.with_silent),
        *near,
        tuple(make_window(file, c, "other side", c.weight) for c in rest if settings.scored),
        words(facts.top_token) if facts.top_token is not None else None,
        assert_splits_disjoint(file, mine, pool),
    )


def window_kind(facts: FeatureFacts, context: Context) -> str:
    """Return the kind of a firing context: `top`, or `decile 1` (weakest by |activation|) to
    `decile 10`."""
    return f"decile {find_decile(facts, context.value)}" if context.stratum == "range" else "top"


def assert_splits_disjoint(
    file: HarvestFile, stored: list[Context], pool: SilentWindows
) -> tuple[str, ...]:
    """Assert that no document has contexts in both the explain and the score split; return a note
    where a small corpus makes this impossible.

    A harvest of fewer than 20 documents splits each document into blocks: then no sequence is in
    both splits.
    """
    documents = {s: {c.document for c in stored if c.split == s} for s in ("explain", "score")}
    sides = {s: documents[s] | pool.documents(s) for s in documents}
    if not sides["explain"] & sides["score"]:
        return ()
    if pool.few_documents:
        return ("The corpus has few documents, so both splits hold parts of the same ones.",)
    raise AssertionError(f"{file.path.name}: a document is in both splits")
