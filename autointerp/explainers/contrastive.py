"""What tells the firing windows from silent ones that look like them."""

from autointerp.asking.records import Failed
from autointerp.contexts import Sampled
from autointerp.explainers import showing
from autointerp.explainers.asking import said
from autointerp.explainers.fitting import ShownWindows
from autointerp.explainers.records import Explained, Explainer, Tools
from autointerp.scorers.sheets import numbered, quoted

NAME = "contrastive"
FIRING, SILENT = 15, 8


async def explain(sampled: Sampled, tools: Tools) -> Explained | Failed:
    """From firing windows and the silent ones of the explain split that are most like them.

    Where no silent window is like them, random ones are shown.
    """
    firing = sampled.explain[:FIRING]
    silent = (sampled.explain_hard or sampled.explain_random)[:SILENT]

    def fields(shown: ShownWindows) -> dict[str, object]:
        sides = [(e, i < len(firing)) for e, i in zip(shown.windows, shown.places, strict=True)]
        fires = [showing.text(e) for e, fires in sides if fires]
        quiet = [quoted(e.text) for e, fires in sides if not fires]
        return {"firing": numbered(fires), "silent": numbered(quiet) or "There are none."}

    return await said(NAME, tools, (*firing, *silent), fields)


EXPLAINER = Explainer(
    "Against look-alikes",
    "A language model sees firing windows beside silent ones that look like them.",
    explain,
    frozenset(("server",)),
    beside=True,
)
