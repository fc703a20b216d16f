"""What tells the firing windows from silent ones that look like them."""

from autointerp.contexts import FeatureSample
from autointerp.explainers import window_text
from autointerp.explainers.explanation_request import request_explanation
from autointerp.explainers.prompt_windows import ShownWindows
from autointerp.explainers.records import Explainer, ExplainerTools, WrittenExplanation
from autointerp.llm.requests_and_replies import RequestFailure
from autointerp.scorers.prompt_templates import number_lines, quote_as_json

NAME = "contrastive"
FIRING_SHOWN, SILENT_SHOWN = 15, 8


async def explain(
    sampled: FeatureSample, tools: ExplainerTools
) -> WrittenExplanation | RequestFailure:
    """From firing windows and the silent ones of the explain split that are most like them.

    Where no silent window is like them, random ones are shown.
    """
    firing = sampled.explain[:FIRING_SHOWN]
    silent = (sampled.explain_hard or sampled.explain_random)[:SILENT_SHOWN]

    def fields(shown: ShownWindows) -> dict[str, object]:
        sides = [(e, i < len(firing)) for e, i in zip(shown.windows, shown.places, strict=True)]
        fires = [window_text.mark_firing_tokens(e) for e, fires in sides if fires]
        quiet = [quote_as_json(e.text) for e, fires in sides if not fires]
        return {"firing": number_lines(fires), "silent": number_lines(quiet) or "There are none."}

    return await request_explanation(NAME, tools, (*firing, *silent), fields)


EXPLAINER = Explainer(
    "Against look-alikes",
    "A language model sees firing windows beside silent ones that look like them.",
    explain,
    frozenset(("server",)),
    beside=True,
)
