"""Tokens with their activations from 0 to 10 (Bills et al. 2023)."""

from autointerp.asking.records import Failed
from autointerp.contexts import Sampled
from autointerp.explainers import showing
from autointerp.explainers.asking import said
from autointerp.explainers.fitting import ShownWindows
from autointerp.explainers.records import Explained, Explainer, Tools
from autointerp.scorers.sheets import quoted
from autointerp.windows import Example

NAME = "token-activation"
WINDOWS = 6
"""A line a token is long: few windows are shown."""


async def explain(sampled: Sampled, tools: Tools) -> Explained | Failed:
    """From every token of the strongest windows and what the feature does on it."""
    shown = showing.tops(sampled)[:WINDOWS]
    largest = showing.largest(sampled)

    def fields(shown: ShownWindows) -> dict[str, object]:
        blocks = [f"Text {n}\n{table(e, largest)}" for n, e in enumerate(shown.windows, 1)]
        return {"texts": "\n\n".join(blocks)}

    return await said(NAME, tools, shown, fields)


def table(example: Example, largest: float) -> str:
    """A line a token: the token in quotes, a tab, its level."""
    rows = zip(example.tokens, example.activations, strict=True)
    return "\n".join(f"{quoted(token)}\t{showing.level(a, largest)}" for token, a in rows)


EXPLAINER = Explainer(
    "Token by token",
    "A language model sees every token of a few strong windows with its activation, 0 to 10.",
    explain,
    frozenset(("server",)),
)
