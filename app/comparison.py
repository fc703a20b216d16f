"""Several features of a harvest against each other: numbers of pairs, and contexts they share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from app import pooling
from app.panels.contexts import make_file_context_line
from app.session import Place
from app.tokens import visible
from backend.engine_protocol import Engine
from feature_store import coactivation
from feature_store.coactivation import CoactivationCounts
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import Context, FeatureFacts, FeatureId
from feature_store.window_pool import PoolWindow, align_pools

MOST = 6
WINDOWS = 12
"""Shared windows shown."""
EACH = 4
"""Strongest contexts of each feature that are read again under the others."""
Acts = dict[int, float]
"""Position in a sequence → activation."""


@dataclass(frozen=True)
class Window:
    """Tokens on which several features are known, with the activations of each."""

    at: PoolWindow
    acts: Mapping[FeatureId, Acts]


def parse(file: HarvestFile, texts: Iterable[str]) -> list[FeatureId]:
    """The features that a URL names, each once; InputError for one that is not here, or too many.

    Features of one harvest can be compared, since they were seen on the same tokens.
    """
    found = list(dict.fromkeys(file.check_feature(FeatureId.parse(text)) for text in texts))
    if len(found) > MOST:
        raise InputError(f"Compare takes 2 to {MOST} features, not {len(found)}: leave some out.")
    return found


def pairs(
    file: HarvestFile, features: Sequence[FeatureId]
) -> list[tuple[FeatureId, FeatureId, CoactivationCounts, float | None]]:
    """Each pair with its joint firings and its correlation on the pool."""
    found = []
    for a, b in combinations(features, 2):
        one, other = (pooling.named(file, f.dictionary) for f in (a, b))
        joint = coactivation.count_coactivations(one, a.index, other, b.index)
        r = coactivation.activation_correlation(one, a.index, other, b.index)
        found.append((a, b, joint, r))
    return found


def shared_logits(one: FeatureFacts, other: FeatureFacts) -> tuple[list[int], int, float] | None:
    """Tokens that both promote (in the first one's order), how many are stored of each at most, and
    the Jaccard index of the two sets; None where the lens is not defined for one of them."""
    if one.promoted_tokens is None or other.promoted_tokens is None:
        return None
    mine, theirs = set(one.promoted_tokens), set(other.promoted_tokens)
    both = [token for token in one.promoted_tokens if token in theirs]
    stored = max(len(mine), len(theirs))
    return both, stored, len(both) / len(mine | theirs) if stored else 0.0


def together(file: HarvestFile, features: Sequence[FeatureId]) -> list[Window]:
    """The pool's windows in which at least two of the features fire, strongest first.

    A window's strength is the second largest of activation ÷ maximum: both have to be strong.
    """
    shared = align_pools([pooling.named(file, f.dictionary) for f in features])
    pools = dict(zip(features, shared, strict=True))
    found: list[tuple[float, Window]] = []
    for number, at in enumerate(pools[features[0]].windows):
        acts = {
            f: inside(pools[f].activations_of(f.index), pools[f].windows[number]) for f in features
        }
        peaks = sorted(max(map(abs, one.values())) / top(file, f) for f, one in acts.items() if one)
        if len(peaks) >= 2:
            found.append((peaks[-2], Window(at, acts)))
    found.sort(key=lambda pair: -pair[0])
    return [window for _, window in found]


def inside(firings: tuple[np.ndarray, np.ndarray], at: PoolWindow) -> Acts:
    """The part of a feature's firings on the pool that lies in one window, by position."""
    tokens, values = firings
    low, high = np.searchsorted(tokens, [at.first, at.first + at.length])
    positions = tokens[low:high] - at.first + at.start
    return dict(zip(positions.tolist(), values[low:high].tolist(), strict=True))


def reread(file: HarvestFile, features: Sequence[FeatureId], engine: Engine) -> list[Window]:
    """The strongest contexts of each feature, read by the model under all of them.

    A context that several share stands once.
    """
    names = list(dict.fromkeys(f.dictionary for f in features))
    found: dict[tuple[int, int], Window] = {}
    for feature in features:
        for context in [c for c in file.contexts(feature) if c.stratum == "top"][:EACH]:
            at = PoolWindow(
                context.sequence, context.start, context.length, context.split, context.document, 0
            )
            if (at.sequence, at.start) in found:
                continue
            end = at.start + at.length
            text = engine.text(file.sequences.tokens(at.sequence)[:end].tolist())
            firing = engine.compute_activations(text, names)
            acts = {
                f: {
                    p: v
                    for p, v in firing[f.dictionary].by_position(f.index).items()
                    if text.counted[p] and at.start <= p < end
                }
                for f in features
            }
            found[at.sequence, at.start] = Window(at, acts)
    return list(found.values())


def drawn(
    file: HarvestFile, window: Window, address: Mapping[FeatureId, str], whole: bool
) -> list[dict[str, Any]]:
    """A window as lines of the contexts component: one a feature, all on the same token."""
    at = window.at
    peak = pivot(file, window)
    lines = []
    for i, (feature, acts) in enumerate(window.acts.items()):
        value = max(acts.values(), key=abs, default=0.0)
        context = Context(
            "top",
            0,
            None,
            at.split,
            at.document,
            at.sequence,
            at.start,
            at.length,
            peak,
            value,
            list(acts),
            list(acts.values()),
        )
        own = {
            "alike": i,
            "max": top(file, feature),
            "name": str(feature),
            "href": address[feature] + f"&sequence={at.sequence}&position={peak}",
            "target": f"{feature} {at.sequence} {peak}",
        }
        lines.append(vars(make_file_context_line(file, context, whole)) | own)
    return lines


def pivot(file: HarvestFile, window: Window) -> int:
    """The position at which the features' activations ÷ maxima add up to most."""
    total: Acts = {}
    for feature, acts in window.acts.items():
        for position, value in acts.items():
            total[position] = total.get(position, 0.0) + abs(value) / top(file, feature)
    return max(total, key=lambda p: (total[p], -p))


def top(file: HarvestFile, feature: FeatureId) -> float:
    """The feature's largest |activation|; 1 for one that never fired."""
    return file.facts(feature).max_act or 1.0


def words(place: Place, tokens: Iterable[int]) -> str:
    """Tokens as one short text."""
    return "  ".join(visible(place.file.vocabulary.text(token)).strip() for token in tokens)
