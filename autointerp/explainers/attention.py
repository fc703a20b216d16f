"""For features of attention: at which token they fire, and from which tokens it comes."""

import asyncio
from collections.abc import Sequence

from autointerp.contexts import FeatureSample
from autointerp.explainers import window_text
from autointerp.explainers.explanation_request import request_explanation
from autointerp.explainers.prompt_windows import ShownWindows
from autointerp.explainers.records import Explainer, ExplainerTools, WrittenExplanation
from autointerp.llm.requests_and_replies import RequestFailure
from autointerp.scorers.prompt_templates import mark_tokens, number_lines, quote_as_json
from autointerp.text_windows import TextWindow
from feature_store.errors import InputError

NAME = "attention"
SOURCES_SHOWN = 3
"""Source tokens named for a window."""
MIN_SOURCE_SHARE = 0.05
"""Share of the sum of |shares| from which a source is named."""


async def explain(
    sampled: FeatureSample, tools: ExplainerTools
) -> WrittenExplanation | RequestFailure:
    """From the strongest windows: the token of the peak, and the tokens attended to for it."""
    if tools.sources is None:
        raise InputError(
            "The explainer 'attention' needs a dictionary that reads attention's hook_z, and the "
            "model."
        )
    asked = [example for example in window_text.strongest_windows(sampled) if example.peak >= 0]
    found = await asyncio.gather(*map(tools.sources, asked))
    pairs = [(e, list(s)) for e, s in zip(asked, found, strict=True) if s is not None and any(s)]
    if not pairs:
        return RequestFailure(
            "unreadable", "The model cannot say from which tokens the activation comes."
        )
    shown = [example for example, _ in pairs]

    def fields(shown: ShownWindows) -> dict[str, object]:
        lines = [
            f"{mark_peak_token(e)}\n   from {describe_sources(e, pairs[i][1])}"
            for e, i in zip(shown.windows, shown.places, strict=True)
        ]
        return {"texts": number_lines(lines)}

    return await request_explanation(NAME, tools, shown, fields, cut=False)


def mark_peak_token(example: TextWindow) -> str:
    """The window with « » around the token of its peak."""
    return mark_tokens(example.tokens, frozenset((example.peak,)))


def describe_sources(example: TextWindow, shares: Sequence[float]) -> str:
    """The tokens of the largest |share|, each with its part of all and its distance."""
    total = sum(map(abs, shares))
    order = sorted(range(len(shares)), key=lambda i: -abs(shares[i]))[:SOURCES_SHOWN]
    return ", ".join(
        f"{quote_as_json(example.tokens[i])} ({shares[i] / total:+.0%}, "
        f"{describe_distance(example.peak - i)})"
        for i in order
        if abs(shares[i]) >= MIN_SOURCE_SHARE * total
    )


def describe_distance(tokens: int) -> str:
    """How far before the peak a source is, in words."""
    return f"{tokens} before" if tokens else "itself"


EXPLAINER = Explainer(
    "Where attention looks",
    "A language model sees, for strong windows, the token of the peak and the tokens from which "
    "its activation comes.",
    explain,
    frozenset(("server", "sources")),
)
