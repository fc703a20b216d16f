"""What a feature fires on, or what it makes the model say: whichever explains more."""

from autointerp.asking.records import Failed
from autointerp.contexts import Sampled
from autointerp.explainers import showing
from autointerp.explainers.asking import said
from autointerp.explainers.fitting import ShownWindows
from autointerp.explainers.records import Explained, Explainer, Tools
from autointerp.scorers.sheets import listed, numbered

NAME = "with-logits"
TOKENS = 10
"""Promoted and suppressed tokens that are named."""


async def explain(sampled: Sampled, tools: Tools) -> Explained | Failed:
    """From the strongest windows, the tokens at and behind their peaks, and the logit lens."""
    shown = showing.tops(sampled)

    def fields(shown: ShownWindows) -> dict[str, object]:
        return {
            "texts": numbered([showing.text(e) for e in shown.windows]),
            "peaks": listed(showing.peaks(shown.windows)),
            "nexts": listed(showing.peaks(shown.windows, 1)),
            "promoted": listed(sampled.promoted[:TOKENS]) if sampled.promoted else "not known",
            "suppressed": listed(sampled.suppressed[:TOKENS])
            if sampled.suppressed
            else "not known",
        }

    return await said(NAME, tools, shown, fields)


EXPLAINER = Explainer(
    "With promoted tokens",
    "A language model sees strong windows, what follows their peaks, and the tokens that the "
    "feature makes likelier.",
    explain,
    frozenset(("server",)),
)
