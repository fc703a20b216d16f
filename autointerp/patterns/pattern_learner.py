"""A few patterns that tell a feature's windows from silent ones, learnt from the explain split.

In the spirit of Neuron-to-Graph (Foote et al. 2023, arXiv:2305.19911), but counted rather than
probed: each kind of token is a candidate, its rate the share of its occurrences on which the
feature fires, and candidates are taken greedily as long as each makes the judge's answers on the
explain windows clearly likelier.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from autointerp.contexts import FeatureSample
from autointerp.patterns.pattern_judge import UNMATCHED_PROBABILITY
from autointerp.patterns.pattern_matcher import word_continues
from autointerp.patterns.records import ADVERB_RATES, PatternKind, PatternRule, TokenPattern
from autointerp.patterns.token_shapes import ANYTHING, TOKEN_SHAPES, strip_token
from autointerp.text_windows import TextWindow

PatternKey = tuple[PatternKind, str, str | None]
"""Kind, target and text before of a pattern, without its rate."""
MAX_PATTERNS = 10
"""Patterns of a label."""
MAX_PROMOTED = 3
"""Promoted tokens that it names."""
MAX_CANDIDATES = 60
"""Candidates that are followed, those first whose windows tell most by themselves."""
MIN_LIKELIHOOD_GAIN = 0.5
"""By how many nats of likelihood, over all windows, a pattern has to better a label."""
KIND_COST = {"token": 0.0, "shape": 2.0, "beginning": 2.0}
"""How much more a kind of pattern has to do: it says less plainly where a feature fires, …"""
AFTER_COST = 0.5
"""… as does what stands before."""
PRIOR_COUNT, PRIOR_RATE = 1.0, 0.1
"""Occurrences added to each candidate's, and the share of them that count as firing: so that a few
firings by chance do not make a pattern."""
MIN_RATE = 0.1
"""Below it, a pattern says next to nothing."""
MIN_BEGINNING_LETTERS = 2
"""Letters of a beginning."""


@dataclass(frozen=True)
class LearnedRule:
    """A rule, and what its patterns were counted on."""

    rule: PatternRule
    seen: tuple[int, ...]
    """Occurrences of each pattern in the windows learnt from."""
    fired: tuple[int, ...]
    """Those of them on which the feature fires."""


@dataclass(frozen=True)
class CandidatePattern:
    """A pattern and where it occurs."""

    pattern: TokenPattern
    at: np.ndarray
    """Numbers of the tokens, over all windows."""
    fired: int
    lead: float
    """Share of the firing windows that hold it less that of the silent."""
    cost: float


def learn_patterns(sampled: FeatureSample) -> LearnedRule:
    """The patterns of a feature, from the firing and the silent windows of the explain split."""
    firing = (*sampled.explain, *sampled.explain_more)
    texts = PatternTrainingSet(firing, (*sampled.explain_random, *sampled.explain_hard))
    found = texts.candidates()
    chosen = texts.choose(found) or found[:1]
    chosen.sort(key=lambda c: -c.pattern.rate)  # by the order of choice within a rate
    promoted = tuple(dict.fromkeys(strip_token(t) for t in sampled.promoted if t))[:MAX_PROMOTED]
    rule = PatternRule(tuple(c.pattern for c in chosen), promoted)
    return LearnedRule(rule, tuple(len(c.at) for c in chosen), tuple(c.fired for c in chosen))


class PatternTrainingSet:
    """Firing and silent windows, their tokens numbered through."""

    def __init__(self, firing: Sequence[TextWindow], silent: Sequence[TextWindow]) -> None:
        self.windows = [*firing, *silent]
        self.n = len(self.windows)
        self.truth = np.arange(self.n) < len(firing)
        # both classes count alike, as in balanced accuracy
        share = np.where(self.truth, len(firing), max(len(silent), 1))
        self.weight = 0.5 * self.n / share
        self.window = np.repeat(np.arange(self.n), [len(w.tokens) for w in self.windows])
        self.active = np.array([a != 0 for w in self.windows for a in w.activations], dtype=bool)

    def candidates(self) -> list[CandidatePattern]:
        """Kinds of tokens on which the feature fires, the most telling first."""
        places: dict[PatternKey, list[int]] = {}
        kinds = [kind for window in self.windows for kind in window_pattern_keys(window.tokens)]
        hot = np.flatnonzero(self.active).tolist()
        fired = Counter(key for number in hot for key in kinds[number])
        for number, found in enumerate(kinds):
            for key in found:
                if key in fired:
                    places.setdefault(key, []).append(number)
        least = 2 if max(fired.values(), default=0) > 1 else 1
        often = [key for key, n in fired.items() if n >= least]
        clear = [key for key in often if smoothed_rate(fired[key], len(places[key])) >= MIN_RATE]
        plainest: dict[tuple[int, ...], PatternKey] = {}
        for key in sorted(clear or often, key=pattern_cost):
            plainest.setdefault(tuple(places[key]), key)
        told = [self._candidate(key, at, fired[key]) for at, key in plainest.items()]
        return sorted(told, key=lambda c: (-c.lead, len(c.at), str(c.pattern)))[:MAX_CANDIDATES]

    def _candidate(self, key: PatternKey, at: Sequence[int], fired: int) -> CandidatePattern:
        share = smoothed_rate(fired, len(at))
        often = min(ADVERB_RATES, key=lambda word: abs(ADVERB_RATES[word] - share))
        kind, target, after = key
        where = np.array(at)
        held = np.unique(self.window[where])
        lead = float(np.where(self.truth[held], 1, -1) @ self.weight[held])
        return CandidatePattern(
            TokenPattern(kind, target, after, often), where, fired, lead, pattern_cost(key)
        )

    def choose(self, candidates: list[CandidatePattern]) -> list[CandidatePattern]:
        """Greedily those that better the judge's answers most, until none does by GAIN."""
        chosen: list[CandidatePattern] = []
        hazard = np.zeros(len(self.window))  # −log of the chance to stay silent, of each token
        total = np.full(self.n, -np.log1p(-UNMATCHED_PROBABILITY))
        left, reached = list(candidates), self.likelihood(total)
        while left and len(chosen) < MAX_PATTERNS:
            adds = [self._added(c, hazard) for c in left]
            scores = [
                self.likelihood(total + add) - c.cost for c, add in zip(left, adds, strict=True)
            ]
            best = int(np.argmax(scores))
            if scores[best] - reached < MIN_LIKELIHOOD_GAIN:
                break
            taken = left.pop(best)
            hazard[taken.at] = np.maximum(hazard[taken.at], -np.log1p(-taken.pattern.rate))
            total = total + adds[best]
            reached = self.likelihood(total)
            chosen.append(taken)
        return chosen

    def _added(self, candidate: CandidatePattern, hazard: np.ndarray) -> np.ndarray:
        """What a candidate adds to each window's total; the highest rate of a token counts."""
        more = np.maximum(-np.log1p(-candidate.pattern.rate) - hazard[candidate.at], 0)
        return np.bincount(self.window[candidate.at], more, self.n)

    def likelihood(self, total: np.ndarray) -> float:
        """Log likelihood of the windows' truths, in nats, both classes counting alike."""
        quiet = np.clip(np.exp(-total), 1e-3, 1 - 1e-3)
        return float(self.weight @ np.log(np.where(self.truth, 1 - quiet, quiet)))


def smoothed_rate(fired: int, seen: int) -> float:
    """The share of occurrences on which the feature fires, drawn down where there are few."""
    return (fired + PRIOR_COUNT * PRIOR_RATE) / (seen + PRIOR_COUNT)


def pattern_cost(key: PatternKey) -> float:
    """How little a pattern says plainly, in nats that it has to make up for."""
    kind, target, after = key
    return KIND_COST[kind] + (target == ANYTHING) + (0.0 if after is None else AFTER_COST)


@lru_cache(maxsize=2048)
def window_pattern_keys(tokens: tuple[str, ...]) -> tuple[tuple[PatternKey, ...], ...]:
    """For each token of a window the patterns that match it; silent windows come up again and
    again, for one feature after the other."""
    return tuple(tuple(token_pattern_keys(tokens, i)) for i in range(len(tokens)))


def token_pattern_keys(tokens: Sequence[str], i: int) -> Iterator[PatternKey]:
    """All patterns that match the token at an index."""
    here = strip_token(tokens[i])
    shapes = [
        name for name, is_one in TOKEN_SHAPES.items() if name != ANYTHING and is_one(tokens, i)
    ]
    begun = [
        here[:n]
        for n in range(MIN_BEGINNING_LETTERS, min(len(here), MIN_BEGINNING_LETTERS + 2))
        if here.isalpha()
    ]
    for before in (None, *preceding_texts(tokens, i)):
        yield ("token", here, before)
        for name in shapes:
            yield ("shape", name, before)
        if before is not None:
            yield ("shape", ANYTHING, before)
    for text in begun:
        yield ("beginning", text, None)


def preceding_texts(tokens: Sequence[str], i: int) -> Iterator[str]:
    """The one and the two tokens before, where the two begin with a word."""
    if i > 0:
        yield strip_token(tokens[i - 1])
    blank = i > 1 and (tokens[i - 1].isspace() or tokens[i - 2].isspace())
    if i > 1 and not blank and not (i > 2 and word_continues(tokens, i - 3)):
        yield strip_token(tokens[i - 2] + tokens[i - 1])
