"""Interface of scorers: the tools a scorer is given, judged items, the score of a label, and the
scorer's entry in the table SCORERS."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from autointerp.contexts import FeatureSample
from autointerp.explainers.explainer_interface import EmbedTexts
from autointerp.llm.requests_and_replies import Asker
from autointerp.scorers.token_counts import TokenCounts
from feature_store.records import FeatureId
from feature_store.statistics import Estimate

if TYPE_CHECKING:
    from autointerp.scorers.simulation_scale import SimulationScale

MeasureActivations = Callable[[FeatureId, Sequence[str]], Awaitable[np.ndarray]]
"""Type of a function that returns the feature's largest |activation| in each text, over counted
tokens only: [n] float32."""
PATTERN_JUDGE, LLM_JUDGE = "pattern", "openai"
"""Names of the judges: patterns read from the label, or a language model."""


@dataclass(frozen=True)
class SteeredPair:
    """Two continuations of one prompt for the intervention scorer: unsteered, and steered at a
    stated KL divergence."""

    prompt: str
    clean: str
    steered: str
    kl: float
    """Mean KL divergence in nats at the next token that the search for the strength reached."""
    strength: float


SteerPrompts = Callable[[FeatureId, int], Awaitable[Sequence[SteeredPair]]]
"""Type of a function (feature, number of prompts) → one steered pair per prompt; the target KL is
1.0 ± 0.1 nats."""
MeasureSurprisal = Callable[[Sequence[str], Sequence[str]], Awaitable[np.ndarray]]
"""Type of a function (prefixes, as many texts) → mean nats per token of each text after its prefix:
[n]. A local model is needed: chat servers give no log probabilities of the texts they are sent."""


@dataclass(frozen=True)
class ScorerTools:
    """Tools that scorers may use in addition to a feature's windows: the judge, a text embedder,
    the feature's model, token counts. The scorer's table entry says which it needs."""

    judge: str = PATTERN_JUDGE
    ask: Asker | None = None
    embed: EmbedTexts | None = None
    activates: MeasureActivations | None = None
    steers: SteerPrompts | None = None
    seed: int = 0
    surprisal: MeasureSurprisal | None = None
    counts: TokenCounts | None = None
    """Corpus counts of each token; without them, control tokens are not matched in frequency."""
    scale: "SimulationScale | None" = None
    """How simulated numbers are read in the whole run; None lets each score decide for itself."""
    thinking: int = 0
    """Tokens that a reply may use for reasoning, in addition to its answer."""


@dataclass(frozen=True)
class JudgedItem:
    """One item that a scorer asks the judge about (a window, a written text, a pair): the judge's
    answer and the truth."""

    sequence: int
    start: int
    """Sequence and start of the window; both −1 for a text that was written for the test."""
    document: int
    kind: str
    """Stratum: a window's `kind`, or the scorer's own term."""
    truth: float
    """1 or 0 for yes and no; an activation for simulation."""
    answer: float | None
    """The judge's answer; None where it failed."""
    probability: float | None = None
    """Probability of the answer; None where the judge gives none."""
    failed: str = ""
    """Kind of failure (see llm/failure_kinds.py); empty where there is an answer."""
    weight: float | None = None


@dataclass(frozen=True)
class LabelScore:
    """Score of one label on one feature by one scorer: the headline estimate, its parts, and the
    judged items."""

    scorer: str
    measure: str
    """Measure of `value`: `balanced accuracy`, `AUC`, `correlation`, …"""
    value: Estimate
    """Headline estimate: against random negatives, where there are two kinds of negatives."""
    parts: Mapping[str, Estimate] = field(default_factory=dict)
    """All other estimates by name: `hard`, `AUC random`, `F1 hard`, `precision`, `top`, `decile 1`,
    …"""
    judged: tuple[JudgedItem, ...] = ()
    failed: int = 0
    """Number of items without a usable answer; they are in no estimate."""
    calls: tuple[str, ...] = ()
    """Keys of the requests in the job's call log."""
    detail: Mapping[str, Any] = field(default_factory=dict)


ScoreFunction = Callable[[str, FeatureSample, ScorerTools], Awaitable[LabelScore]]
"""Type of a scorer's function (label, windows, tools) → score. Raises TooFewWindows where there are
too few windows."""


@dataclass(frozen=True)
class Scorer:
    """Scorer as an entry of the table SCORERS: title, help, measure, the function that scores a
    label, and the judges and tools it needs."""

    title: str
    help: str
    measure: str
    chance: float | None
    """Value of guessing; None where that is not a single number."""
    score: ScoreFunction
    judges: frozenset[str] = frozenset((LLM_JUDGE,))
    """Names of the judges that can answer."""
    needs: frozenset[str] = frozenset()
    """Required tools, of `embedder`, `model` (ScorerTools.activates or ScorerTools.steers),
    `surprisal`."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest possible value."""
    shows_label: bool = True
    """Whether the judge sees the label; without it, own and borrowed labels have the same score."""
