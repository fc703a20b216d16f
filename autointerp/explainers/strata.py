"""What windows of all strengths have in common, so that a label covers weak firings, too."""

from autointerp.contexts import FeatureSample
from autointerp.explainers import window_text
from autointerp.explainers.explanation_request import request_explanation
from autointerp.explainers.prompt_windows import ShownWindows
from autointerp.explainers.records import Explainer, ExplainerTools, WrittenExplanation
from autointerp.llm.requests_and_replies import RequestFailure
from autointerp.scorers.prompt_templates import number_lines

NAME = "strata"


async def explain(
    sampled: FeatureSample, tools: ExplainerTools
) -> WrittenExplanation | RequestFailure:
    """From all windows to be shown: top ones and a sample of the range, each with its level."""
    largest = window_text.largest_activation(sampled)

    def fields(shown: ShownWindows) -> dict[str, object]:
        levels = [
            window_text.activation_level(max(map(abs, e.activations)), largest)
            for e in shown.windows
        ]
        lines = [
            f"{level}: {window_text.mark_firing_tokens(e)}"
            for level, e in zip(levels, shown.windows, strict=True)
        ]
        return {"texts": number_lines(lines)}

    return await request_explanation(NAME, tools, sampled.explain, fields)


EXPLAINER = Explainer(
    "Windows of all strengths",
    "A language model sees top windows and a sample of weaker ones, each with its strength.",
    explain,
    frozenset(("server",)),
)
