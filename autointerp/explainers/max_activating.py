"""What the windows of highest activation have in common."""

from autointerp.asking.records import Failed
from autointerp.contexts import Sampled
from autointerp.explainers import showing
from autointerp.explainers.asking import said
from autointerp.explainers.fitting import ShownWindows
from autointerp.explainers.records import Explained, Explainer, Tools
from autointerp.scorers.sheets import numbered

NAME = "max-activating"


async def explain(sampled: Sampled, tools: Tools) -> Explained | Failed:
    """From the strongest windows alone, strong tokens marked."""
    return await said(NAME, tools, showing.tops(sampled), fields)


def fields(shown: ShownWindows) -> dict[str, object]:
    """The prompt's fields: the windows, one a line."""
    return {"texts": numbered([showing.text(e) for e in shown.windows])}


EXPLAINER = Explainer(
    "Strongest windows",
    "A language model sees the windows of highest activation, strong tokens marked.",
    explain,
    frozenset(("server",)),
)
