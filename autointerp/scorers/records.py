"""What a scorer is given, and what it gives back."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from autointerp.contexts import FeatureSample
from autointerp.explainers.records import EmbedTexts
from autointerp.llm.requests_and_replies import Asker
from autointerp.scorers.token_counts import TokenCounts
from autointerp.statistics import Estimate
from feature_store.records import FeatureId

if TYPE_CHECKING:
    from autointerp.scorers.simulation_scale import SimulationScale

MeasureActivations = Callable[[FeatureId, Sequence[str]], Awaitable[np.ndarray]]
"""The feature's largest |activation| in each text, counted tokens only: [n] float32."""
PATTERN_JUDGE, LLM_JUDGE = "pattern", "openai"
"""The judges: patterns read from the label, or a language model."""


@dataclass(frozen=True)
class SteeredPair:
    """What the model wrote from one prompt, left alone and steered at a stated KL."""

    prompt: str
    clean: str
    steered: str
    kl: float
    """Mean nats at the next token, as reached by the search for the strength."""
    strength: float


SteerPrompts = Callable[[FeatureId, int], Awaitable[Sequence[SteeredPair]]]
"""A feature, how many prompts → one record for each; the KL aimed at is 1.0 ± 0.1."""
MeasureSurprisal = Callable[[Sequence[str], Sequence[str]], Awaitable[np.ndarray]]
"""Prefixes and as many texts → mean nats per token of each text behind its prefix: [n]. A local
model: chat servers do not give log probabilities of what they are sent."""


@dataclass(frozen=True)
class ScorerTools:
    """What scorers may use beyond the windows; each needs what its table entry says."""

    judge: str = PATTERN_JUDGE
    ask: Asker | None = None
    embed: EmbedTexts | None = None
    activates: MeasureActivations | None = None
    steers: SteerPrompts | None = None
    seed: int = 0
    surprisal: MeasureSurprisal | None = None
    counts: TokenCounts | None = None
    """How often each token stands in the corpus; without it controls are not matched by that."""
    scale: "SimulationScale | None" = None
    """How simulated numbers are read, in the whole run; None: each score decides for itself."""
    thinking: int = 0
    """Tokens that a reply may have beyond its answer, for models that think aloud."""


@dataclass(frozen=True)
class JudgedItem:
    """What a judge said of one item."""

    sequence: int
    start: int
    """Where the window is; -1 both for a text that was written for the test."""
    document: int
    kind: str
    """Stratum: an Example's `kind`, or a scorer's own word."""
    truth: float
    """1 or 0 for yes and no; an activation for simulation."""
    answer: float | None
    """None where it failed."""
    probability: float | None = None
    """None where the judge gives none."""
    failed: str = ""
    """The kind of failure (asking.records.Kind); empty where there is an answer."""
    weight: float | None = None


@dataclass(frozen=True)
class LabelScore:
    """One label's score on one feature."""

    scorer: str
    measure: str
    """What `value` is: `balanced accuracy`, `AUC`, `correlation`, …"""
    value: Estimate
    """The headline: against random negatives, where there are two kinds."""
    parts: Mapping[str, Estimate] = field(default_factory=dict)
    """All else, by name: `hard`, `AUC random`, `F1 hard`, `precision`, `top`, `decile 1`, …"""
    judged: tuple[JudgedItem, ...] = ()
    failed: int = 0
    """Items without a usable answer; they are in no estimate."""
    calls: tuple[str, ...] = ()
    """Keys of the requests, in the job's call log."""
    detail: Mapping[str, Any] = field(default_factory=dict)


ScoreFunction = Callable[[str, FeatureSample, ScorerTools], Awaitable[LabelScore]]
"""(label, windows, tools) → score. Raises TooFew where the windows do not do."""


@dataclass(frozen=True)
class Scorer:
    """One way to score: a line of the table SCORERS."""

    title: str
    help: str
    measure: str
    chance: float | None
    """What guessing gives; None where that is not one number."""
    score: ScoreFunction
    judges: frozenset[str] = frozenset((LLM_JUDGE,))
    """Who can answer."""
    needs: frozenset[str] = frozenset()
    """Of `embedder`, `model` (Tools.activates or Tools.steers), `surprisal`."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """Least and largest possible value."""
    shows_label: bool = True
    """Whether the judge sees the label; without it own and borrowed labels have the same score."""
