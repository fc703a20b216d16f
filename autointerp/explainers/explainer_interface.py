"""Interface of explainers: the tools an explainer is given, the written explanation it returns, and
its entry in the table EXPLAINERS."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autointerp.contexts import FeatureSample
from autointerp.llm.requests_and_replies import Asker, RequestFailure
from autointerp.text_windows import TextWindow

EmbedTexts = Callable[[Sequence[str]], np.ndarray]
"""Type of a function that embeds texts as unit vectors [n, d] float32."""
AttentionSources = Callable[[TextWindow], Awaitable[Sequence[float] | None]]
"""Type of a function for features of an attention dictionary: each token's signed share in the
activation at a window's peak, aligned with the window's tokens; None where the model cannot tell.
"""


@dataclass(frozen=True)
class ExplainerTools:
    """Tools that explainers may use in addition to a feature's windows: a language model, a text
    embedder, a list of words, attention sources. The explainer's table entry says which it
    needs."""

    ask: Asker | None = None
    embed: EmbedTexts | None = None
    words: Sequence[str] = ()
    """Words among which the nearest-text explainer chooses."""
    sources: AttentionSources | None = None
    seed: int = 0
    thinking: int = 0
    """Tokens that the model may use for reasoning, in addition to those of its answer."""


@dataclass(frozen=True)
class WrittenExplanation:
    """Explanation of a feature that an explainer wrote, with its provenance."""

    text: str
    explainer: str
    model: str = ""
    """Language model that wrote the explanation; empty if none did."""
    prompt: str = ""
    """File and version of the prompt; empty without one."""
    shown: tuple[tuple[int, int], ...] = ()
    """(sequence, first position) of each window that the explanation was written from; all of the
    explain split."""
    calls: tuple[str, ...] = ()
    """Keys of the requests in the job's call log."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Further results of the explainer, as plain data for JSON."""


ExplainFunction = Callable[
    [FeatureSample, ExplainerTools], Awaitable["WrittenExplanation | RequestFailure"]
]


@dataclass(frozen=True)
class Explainer:
    """Explainer as an entry of the table EXPLAINERS: title, help, the function that explains a
    feature, and the tools it needs."""

    title: str
    help: str
    explain: ExplainFunction
    needs: frozenset[str] = frozenset()
    """Required tools, of `server`, `embedder`, `sources`."""
    uses_silent: bool = False
    """Whether the explainer uses `explain_more` or silent windows; other explainers are given
    none."""
