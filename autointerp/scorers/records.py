"""What a scorer is given, and what it gives back."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from autointerp.asking.records import Asker
from autointerp.contexts import Sampled
from autointerp.explainers.records import Embed
from autointerp.scorers.counts import Counts
from autointerp.statistics import Estimate
from feature_store.records import FeatureId

if TYPE_CHECKING:
    from autointerp.scorers.simulation_scale import SimulationScale

Activates = Callable[[FeatureId, Sequence[str]], Awaitable[np.ndarray]]
"""The feature's largest |activation| in each text, counted tokens only: [n] float32."""
PATTERN, LLM = "pattern", "openai"
"""The judges: patterns read from the label, or a language model."""


@dataclass(frozen=True)
class Steered:
    """What the model wrote from one prompt, left alone and steered at a stated KL."""

    prompt: str
    clean: str
    steered: str
    kl: float
    """Mean nats at the next token, as reached by the search for the strength."""
    strength: float


Steers = Callable[[FeatureId, int], Awaitable[Sequence[Steered]]]
"""A feature, how many prompts → one record for each; the KL aimed at is 1.0 ± 0.1."""
Surprisal = Callable[[Sequence[str], Sequence[str]], Awaitable[np.ndarray]]
"""Prefixes and as many texts → mean nats per token of each text behind its prefix: [n]. A local
model: chat servers do not give log probabilities of what they are sent."""


@dataclass(frozen=True)
class Tools:
    """What scorers may use beyond the windows; each needs what its table entry says."""

    judge: str = PATTERN
    ask: Asker | None = None
    embed: Embed | None = None
    activates: Activates | None = None
    steers: Steers | None = None
    seed: int = 0
    surprisal: Surprisal | None = None
    counts: Counts | None = None
    """How often each token stands in the corpus; without it controls are not matched by that."""
    scale: "SimulationScale | None" = None
    """How simulated numbers are read, in the whole run; None: each score decides for itself."""
    thinking: int = 0
    """Tokens that a reply may have beyond its answer, for models that think aloud."""


@dataclass(frozen=True)
class Judged:
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
class Scored:
    """One label's score on one feature."""

    scorer: str
    measure: str
    """What `value` is: `balanced accuracy`, `AUC`, `correlation`, …"""
    value: Estimate
    """The headline: against random negatives, where there are two kinds."""
    parts: Mapping[str, Estimate] = field(default_factory=dict)
    """All else, by name: `hard`, `AUC random`, `F1 hard`, `precision`, `top`, `decile 1`, …"""
    judged: tuple[Judged, ...] = ()
    failed: int = 0
    """Items without a usable answer; they are in no estimate."""
    calls: tuple[str, ...] = ()
    """Keys of the requests, in the job's call log."""
    detail: Mapping[str, Any] = field(default_factory=dict)


Score = Callable[[str, Sampled, Tools], Awaitable[Scored]]
"""(label, windows, tools) → score. Raises TooFew where the windows do not do."""


@dataclass(frozen=True)
class Scorer:
    """One way to score: a line of the table SCORERS."""

    title: str
    help: str
    measure: str
    chance: float | None
    """What guessing gives; None where that is not one number."""
    score: Score
    judges: frozenset[str] = frozenset((LLM,))
    """Who can answer."""
    needs: frozenset[str] = frozenset()
    """Of `embedder`, `model` (Tools.activates or Tools.steers), `surprisal`."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """Least and largest possible value."""
    shows_label: bool = True
    """Whether the judge sees the label; without it own and borrowed labels have the same score."""
