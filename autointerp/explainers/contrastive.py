"""The explainer `contrastive`: a language model describes what distinguishes firing windows from
silent ones that look similar."""

from autointerp.contexts import FeatureSample
from autointerp.explainers import window_text
from autointerp.explainers.explainer_interface import Explainer, ExplainerTools, WrittenExplanation
from autointerp.explainers.explanation_request import request_explanation
from autointerp.explainers.prompt_windows import ShownWindows
from autointerp.llm.requests_and_replies import RequestFailure
from autointerp.scorers.prompt_templates import number_lines, quote_as_json

NAME = "contrastive"
FIRING_SHOWN, SILENT_SHOWN = 15, 8


async def explain(
    sampled: FeatureSample, tools: ExplainerTools
) -> WrittenExplanation | RequestFailure:
    """Explain a feature by the contrast of its firing windows with the most similar silent ones of
    the explain split.

    Where no silent window is similar, random ones are shown.
    """
    firing = sampled.explain[:FIRING_SHOWN]
    silent = (sampled.explain_hard or sampled.explain_random)[:SILENT_SHOWN]

    def fields(shown: ShownWindows) -> dict[str, object]:
        """Return the fields of the contrastive prompt: firing windows and silent windows."""
        sides = [(e, i < len(firing)) for e, i in zip(shown.windows, shown.places, strict=True)]
        fires = [window_text.mark_firing_tokens(e) for e, fires in sides if fires]
        quiet = [quote_as_json(e.text) for e, fires in sides if not fires]
        return {"firing": number_lines(fires), "silent": number_lines(quiet) or "There are none."}

    return await request_explanation(NAME, tools, (*firing, *silent), fields)


EXPLAINER = Explainer(
    "Against look-alikes",
    "A language model sees firing windows, and silent ones that look similar.",
    explain,
    frozenset(("server",)),
    uses_silent=True,
)
