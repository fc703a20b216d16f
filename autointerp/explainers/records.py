"""What an explainer is given, and what it gives back."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autointerp.contexts import FeatureSample
from autointerp.llm.requests_and_replies import Asker, RequestFailure
from autointerp.text_windows import TextWindow

EmbedTexts = Callable[[Sequence[str]], np.ndarray]
"""Texts → [n, d] float32, unit length."""
AttentionSources = Callable[[TextWindow], Awaitable[Sequence[float] | None]]
"""For an attention dictionary: each token's share in the activation at the window's peak, signed,
aligned with the window's tokens. None where the model cannot say."""


@dataclass(frozen=True)
class ExplainerTools:
    """What explainers may use beyond the windows; each needs what its table entry says."""

    ask: Asker | None = None
    embed: EmbedTexts | None = None
    words: Sequence[str] = ()
    """What nearest-text naming chooses from."""
    sources: AttentionSources | None = None
    seed: int = 0
    thinking: int = 0
    """Tokens allowed to a model that thinks before it answers, on top of its answer's."""


@dataclass(frozen=True)
class WrittenExplanation:
    """One sentence about a feature, with what it rests on."""

    text: str
    explainer: str
    model: str = ""
    """The language model that wrote it; empty where none did."""
    prompt: str = ""
    """File and version of the prompt; empty without one."""
    shown: tuple[tuple[int, int], ...] = ()
    """(sequence, first position) of each window that it was written from; all `explain`."""
    calls: tuple[str, ...] = ()
    """Keys of the requests, in the job's call log."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What else the method says, fit for JSON."""


ExplainFunction = Callable[
    [FeatureSample, ExplainerTools], Awaitable["WrittenExplanation | RequestFailure"]
]


@dataclass(frozen=True)
class Explainer:
    """One way to explain: a line of the table EXPLAINERS."""

    title: str
    help: str
    explain: ExplainFunction
    needs: frozenset[str] = frozenset()
    """Of `server`, `embedder`, `sources`."""
    beside: bool = False
    """Whether it looks at `explain_more` or at silent windows: others are given none."""
