"""Learner of token patterns: finds a few patterns that distinguish a feature's firing windows from
silent ones, using the explain split.

In the spirit of Neuron-to-Graph (Foote et al. 2023, arXiv:2305.19911), but counted rather than
probed: each kind of token is a candidate, its rate is the share of its occurrences on which the
feature fires, and candidates are added greedily as long as each clearly increases the likelihood of
the judge's answers on the explain windows.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from autointerp.contexts import FeatureSample
from autointerp.patterns.pattern_judge import UNMATCHED_PROBABILITY
from autointerp.patterns.pattern_matcher import word_continues
from autointerp.patterns.token_patterns import ADVERB_RATES, PatternKind, PatternRule, TokenPattern
from autointerp.patterns.token_shapes import ANYTHING, TOKEN_SHAPES, strip_token
from autointerp.text_windows import TextWindow

PatternKey = tuple[PatternKind, str, str | None]
"""Kind, target and preceding text of a pattern, without its rate."""
MAX_PATTERNS = 10
"""Maximum number of patterns in a learned label."""
MAX_PROMOTED = 3
"""Maximum number of promoted tokens that a learned label names."""
MAX_CANDIDATES = 60
"""Number of candidate patterns that the learner tries, those first that distinguish windows best on
their own."""
MIN_LIKELIHOOD_GAIN = 0.5
"""Log likelihood in nats, over all windows, by which a pattern must improve the label."""
KIND_COST = {"token": 0.0, "shape": 2.0, "beginning": 2.0}
"""Additional likelihood in nats that a kind of pattern must bring, since it is less specific than a
token."""
AFTER_COST = 0.5
"""Additional likelihood in nats that a pattern with a preceding text must bring."""
PRIOR_COUNT, PRIOR_RATE = 1.0, 0.1
"""Occurrences added to each candidate's counts, and the share of them that count as firing: a few
firings by chance do not make a pattern."""
MIN_RATE = 0.1
"""Rate of firing below which a pattern is not informative."""
MIN_BEGINNING_LETTERS = 2
"""Minimum number of letters of a pattern for beginnings of words."""


@dataclass(frozen=True)
class LearnedRule:
    """Pattern rule learned from windows, with the counts of its patterns."""

    rule: PatternRule
    seen: tuple[int, ...]
    """Number of occurrences of each pattern in the training windows."""
    fired: tuple[int, ...]
    """Number of these occurrences on which the feature fires."""


@dataclass(frozen=True)
class CandidatePattern:
    """Candidate of the pattern learner: a pattern and where it occurs in the training windows."""

    pattern: TokenPattern
    positions: np.ndarray
    """Numbers of the tokens on which the pattern occurs, over all windows."""
    fired: int
    lead: float
    """Share of the firing windows that contain the pattern, minus that of the silent windows."""
    cost: float


def learn_patterns(sampled: FeatureSample) -> LearnedRule:
    """Learn the patterns of a feature from the firing and silent windows of the explain split."""
    firing = (*sampled.explain, *sampled.explain_more)
    texts = PatternTrainingSet(firing, (*sampled.explain_random, *sampled.explain_hard))
    matches = texts.candidates()
    chosen = texts.choose(matches) or matches[:1]
    # a stable sort: the order of choice decides between equal rates
    chosen.sort(key=lambda c: -c.pattern.rate)
    promoted = tuple(dict.fromkeys(strip_token(t) for t in sampled.promoted if t))[:MAX_PROMOTED]
    rule = PatternRule(tuple(c.pattern for c in chosen), promoted)
    return LearnedRule(
        rule, tuple(len(c.positions) for c in chosen), tuple(c.fired for c in chosen)
    )


class PatternTrainingSet:
    """Training set of the pattern learner: firing and silent windows, with their tokens numbered
    consecutively."""

    def __init__(self, firing: Sequence[TextWindow], silent: Sequence[TextWindow]) -> None:
        self.windows = [*firing, *silent]
        self.n = len(self.windows)
        self.truth = np.arange(self.n) < len(firing)
        # both classes have the same weight, as in balanced accuracy
        share = np.where(self.truth, len(firing), max(len(silent), 1))
        self.weight = 0.5 * self.n / share
        self.window = np.repeat(np.arange(self.n), [len(w.tokens) for w in self.windows])
        self.active = np.array([a != 0 for w in self.windows for a in w.activations], dtype=bool)

    def candidates(self) -> list[CandidatePattern]:
        """Return the kinds of tokens on which the feature fires as candidate patterns, the most
        informative first."""
        occurrences: dict[PatternKey, list[int]] = {}
        kinds = [kind for window in self.windows for kind in window_pattern_keys(window.tokens)]
        active = np.flatnonzero(self.active).tolist()
        fired = Counter(key for number in active for key in kinds[number])
        for number, matches in enumerate(kinds):
            for key in matches:
                if key in fired:
                    occurrences.setdefault(key, []).append(number)
        least = 2 if max(fired.values(), default=0) > 1 else 1
        often = [key for key, n in fired.items() if n >= least]
        clear = [
            key for key in often if smoothed_rate(fired[key], len(occurrences[key])) >= MIN_RATE
        ]
        most_specific: dict[tuple[int, ...], PatternKey] = {}
        # of patterns that match the same tokens, the most specific is kept
        for key in sorted(clear or often, key=pattern_cost):
            most_specific.setdefault(tuple(occurrences[key]), key)
        candidates = [
            self._candidate(key, positions, fired[key]) for positions, key in most_specific.items()
        ]
        return sorted(candidates, key=lambda c: (-c.lead, len(c.positions), str(c.pattern)))[
            :MAX_CANDIDATES
        ]

    def _candidate(self, key: PatternKey, positions: Sequence[int], fired: int) -> CandidatePattern:
        """Return a candidate pattern with its rate and the windows it distinguishes."""
        share = smoothed_rate(fired, len(positions))
        often = min(ADVERB_RATES, key=lambda word: abs(ADVERB_RATES[word] - share))
        kind, target, after = key
        occurrence_array = np.array(positions)
        windows_with_pattern = np.unique(self.window[occurrence_array])
        lead = float(
            np.where(self.truth[windows_with_pattern], 1, -1) @ self.weight[windows_with_pattern]
        )
        return CandidatePattern(
            TokenPattern(kind, target, after, often),
            occurrence_array,
            fired,
            lead,
            pattern_cost(key),
        )

    def choose(self, candidates: list[CandidatePattern]) -> list[CandidatePattern]:
        """Choose patterns greedily by the gain in likelihood of the judge's answers, until none
        gains MIN_LIKELIHOOD_GAIN."""
        chosen: list[CandidatePattern] = []
        hazard = np.zeros(len(self.window))  # −log probability of silence on each token
        total = np.full(self.n, -np.log1p(-UNMATCHED_PROBABILITY))
        left, likelihood_so_far = list(candidates), self.likelihood(total)
        while left and len(chosen) < MAX_PATTERNS:
            additions = [self._added(c, hazard) for c in left]
            scores = [
                self.likelihood(total + add) - c.cost
                for c, add in zip(left, additions, strict=True)
            ]
            best = int(np.argmax(scores))
            if scores[best] - likelihood_so_far < MIN_LIKELIHOOD_GAIN:
                break
            best_candidate = left.pop(best)
            hazard[best_candidate.positions] = np.maximum(
                hazard[best_candidate.positions], -np.log1p(-best_candidate.pattern.rate)
            )
            total = total + additions[best]
            likelihood_so_far = self.likelihood(total)
            chosen.append(best_candidate)
        return chosen

    def _added(self, candidate: CandidatePattern, hazard: np.ndarray) -> np.ndarray:
        """Return what a candidate pattern adds to each window's −log probability of silence
        [windows]; only the highest rate of a token counts."""
        more = np.maximum(-np.log1p(-candidate.pattern.rate) - hazard[candidate.positions], 0)
        return np.bincount(self.window[candidate.positions], more, self.n)

    def likelihood(self, total: np.ndarray) -> float:
        """Return the log likelihood in nats, given learned patterns, of which training windows
        fire; both classes have the same weight."""
        # clipped: no window may have an infinite log likelihood
        silence = np.clip(np.exp(-total), 1e-3, 1 - 1e-3)
        return float(self.weight @ np.log(np.where(self.truth, 1 - silence, silence)))


def smoothed_rate(fired: int, seen: int) -> float:
    """Return the share of a pattern's occurrences on which the feature fires, shrunk towards the
    prior where there are few."""
    return (fired + PRIOR_COUNT * PRIOR_RATE) / (seen + PRIOR_COUNT)


def pattern_cost(key: PatternKey) -> float:
    """Return the likelihood in nats that a pattern must make up for being unspecific."""
    kind, target, after = key
    return KIND_COST[kind] + (target == ANYTHING) + (0.0 if after is None else AFTER_COST)


@lru_cache(maxsize=2048)
def window_pattern_keys(tokens: tuple[str, ...]) -> tuple[tuple[PatternKey, ...], ...]:
    """Return for each token of a window the patterns that match it; cached, since silent windows
    recur for many features."""
    return tuple(tuple(token_pattern_keys(tokens, i)) for i in range(len(tokens)))


def token_pattern_keys(tokens: Sequence[str], i: int) -> Iterator[PatternKey]:
    """Yield all patterns that match the token at an index, as candidates for the learner."""
    token = strip_token(tokens[i])
    shapes = [
        name for name, is_one in TOKEN_SHAPES.items() if name != ANYTHING and is_one(tokens, i)
    ]
    beginnings = [
        token[:n]
        for n in range(MIN_BEGINNING_LETTERS, min(len(token), MIN_BEGINNING_LETTERS + 2))
        if token.isalpha()
    ]
    for before in (None, *preceding_texts(tokens, i)):
        yield ("token", token, before)
        for name in shapes:
            yield ("shape", name, before)
        if before is not None:
            yield ("shape", ANYTHING, before)
    for text in beginnings:
        yield ("beginning", text, None)


def preceding_texts(tokens: Sequence[str], i: int) -> Iterator[str]:
    """Yield the one and the two tokens before an index, the two only where they begin with a word,
    as preceding texts of patterns."""
    if i > 0:
        yield strip_token(tokens[i - 1])
    has_blank = i > 1 and (tokens[i - 1].isspace() or tokens[i - 2].isspace())
    if i > 1 and not has_blank and not (i > 2 and word_continues(tokens, i - 3)):
        yield strip_token(tokens[i - 2] + tokens[i - 1])
