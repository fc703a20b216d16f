"""The explainer `attention`, for features of attention dictionaries: a language model sees on which
token they fire, and from which source tokens the activation comes."""

import asyncio
from collections.abc import Sequence

from autointerp.contexts import FeatureSample
from autointerp.explainers import window_text
from autointerp.explainers.explainer_interface import Explainer, ExplainerTools, WrittenExplanation
from autointerp.explainers.explanation_request import request_explanation
from autointerp.explainers.prompt_windows import ShownWindows
from autointerp.llm.requests_and_replies import RequestFailure
from autointerp.scorers.prompt_templates import mark_tokens, number_lines, quote_as_json
from autointerp.text_windows import TextWindow
from feature_store.errors import InputError

NAME = "attention"
SOURCES_SHOWN = 3
"""Number of source tokens that the attention prompt names per window."""
MIN_SOURCE_SHARE = 0.05
"""Share of the sum of |shares| from which a source token is named."""


async def explain(
    sampled: FeatureSample, tools: ExplainerTools
) -> WrittenExplanation | RequestFailure:
    """Explain an attention feature from its strongest windows: the peak token, and the source
    tokens attended to for it."""
    if tools.sources is None:
        raise InputError(
            "The explainer 'attention' needs a dictionary that reads attention's hook_z, and the "
            "model."
        )
    windows = [example for example in window_text.strongest_windows(sampled) if example.peak >= 0]
    source_shares = await asyncio.gather(*map(tools.sources, windows))
    pairs = [
        (e, list(s))
        for e, s in zip(windows, source_shares, strict=True)
        if s is not None and any(s)
    ]
    if not pairs:
        return RequestFailure(
            "unreadable", "The model cannot say from which tokens the activation comes."
        )
    shown = [example for example, _ in pairs]

    def fields(shown: ShownWindows) -> dict[str, object]:
        """Return the fields of the attention prompt: each window with its peak token and
        sources."""
        lines = [
            f"{mark_peak_token(e)}\n   from {describe_sources(e, pairs[i][1])}"
            for e, i in zip(shown.windows, shown.places, strict=True)
        ]
        return {"texts": number_lines(lines)}

    return await request_explanation(NAME, tools, shown, fields, cut=False)


def mark_peak_token(example: TextWindow) -> str:
    """Return a window's text with « » around its peak token, for the attention prompt."""
    return mark_tokens(example.tokens, frozenset((example.peak,)))


def describe_sources(example: TextWindow, shares: Sequence[float]) -> str:
    """Return the source tokens with the largest |share| of the attention feature's activation, each
    with its share and distance."""
    total = sum(map(abs, shares))
    order = sorted(range(len(shares)), key=lambda i: -abs(shares[i]))[:SOURCES_SHOWN]
    return ", ".join(
        f"{quote_as_json(example.tokens[i])} ({shares[i] / total:+.0%}, "
        f"{describe_distance(example.peak - i)})"
        for i in order
        if abs(shares[i]) >= MIN_SOURCE_SHARE * total
    )


def describe_distance(tokens: int) -> str:
    """Return in words how many tokens before the peak an attention source is."""
    return f"{tokens} before" if tokens else "itself"


EXPLAINER = Explainer(
    "Where attention looks",
    "A language model sees, for strong windows, the peak token and the source tokens of its "
    "activation.",
    explain,
    frozenset(("server", "sources")),
)
