"""For features of attention: at which token they fire, and from which tokens it comes."""

import asyncio
from collections.abc import Sequence

from autointerp.asking.records import Failed
from autointerp.contexts import Sampled
from autointerp.explainers import showing
from autointerp.explainers.asking import said
from autointerp.explainers.fitting import ShownWindows
from autointerp.explainers.records import Explained, Explainer, Tools
from autointerp.scorers.sheets import marked, numbered, quoted
from autointerp.windows import Example
from feature_store.errors import InputError

NAME = "attention"
SOURCES = 3
"""Source tokens named for a window."""
LEAST = 0.05
"""Share of the sum of |shares| from which a source is named."""


async def explain(sampled: Sampled, tools: Tools) -> Explained | Failed:
    """From the strongest windows: the token of the peak, and the tokens attended to for it."""
    if tools.sources is None:
        raise InputError(
            "The explainer 'attention' needs a dictionary that reads attention's hook_z, and the "
            "model."
        )
    asked = [example for example in showing.tops(sampled) if example.peak >= 0]
    found = await asyncio.gather(*map(tools.sources, asked))
    pairs = [(e, list(s)) for e, s in zip(asked, found, strict=True) if s is not None and any(s)]
    if not pairs:
        return Failed("unreadable", "The model cannot say from which tokens the activation comes.")
    shown = [example for example, _ in pairs]

    def fields(shown: ShownWindows) -> dict[str, object]:
        lines = [
            f"{target(e)}\n   from {sources(e, pairs[i][1])}"
            for e, i in zip(shown.windows, shown.places, strict=True)
        ]
        return {"texts": numbered(lines)}

    return await said(NAME, tools, shown, fields, cut=False)


def target(example: Example) -> str:
    """The window with « » around the token of its peak."""
    return marked(example.tokens, frozenset((example.peak,)))


def sources(example: Example, shares: Sequence[float]) -> str:
    """The tokens of the largest |share|, each with its part of all and its distance."""
    total = sum(map(abs, shares))
    order = sorted(range(len(shares)), key=lambda i: -abs(shares[i]))[:SOURCES]
    return ", ".join(
        f"{quoted(example.tokens[i])} ({shares[i] / total:+.0%}, {distance(example.peak - i)})"
        for i in order
        if abs(shares[i]) >= LEAST * total
    )


def distance(tokens: int) -> str:
    """How far before the peak a source is, in words."""
    return f"{tokens} before" if tokens else "itself"


EXPLAINER = Explainer(
    "Where attention looks",
    "A language model sees, for strong windows, the token of the peak and the tokens from which "
    "its activation comes.",
    explain,
    frozenset(("server", "sources")),
)
