"""What windows of all strengths have in common, so that a label covers weak firings, too."""

from autointerp.asking.records import Failed
from autointerp.contexts import Sampled
from autointerp.explainers import showing
from autointerp.explainers.asking import said
from autointerp.explainers.fitting import ShownWindows
from autointerp.explainers.records import Explained, Explainer, Tools
from autointerp.scorers.sheets import numbered

NAME = "strata"


async def explain(sampled: Sampled, tools: Tools) -> Explained | Failed:
    """From all windows to be shown: top ones and a sample of the range, each with its level."""
    largest = showing.largest(sampled)

    def fields(shown: ShownWindows) -> dict[str, object]:
        levels = [showing.level(max(map(abs, e.activations)), largest) for e in shown.windows]
        lines = [
            f"{level}: {showing.text(e)}" for level, e in zip(levels, shown.windows, strict=True)
        ]
        return {"texts": numbered(lines)}

    return await said(NAME, tools, sampled.explain, fields)


EXPLAINER = Explainer(
    "Windows of all strengths",
    "A language model sees top windows and a sample of weaker ones, each with its strength.",
    explain,
    frozenset(("server",)),
)
