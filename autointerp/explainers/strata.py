"""The explainer `strata`: a language model describes what windows from all strata of activation
have in common, so that the explanation covers weak firings as well."""

from autointerp.contexts import FeatureSample
from autointerp.explainers import window_text
from autointerp.explainers.explainer_interface import Explainer, ExplainerTools, WrittenExplanation
from autointerp.explainers.explanation_request import request_explanation
from autointerp.explainers.prompt_windows import ShownWindows
from autointerp.llm.requests_and_replies import RequestFailure
from autointerp.scorers.prompt_templates import number_lines

NAME = "strata"


async def explain(
    sampled: FeatureSample, tools: ExplainerTools
) -> WrittenExplanation | RequestFailure:
    """Explain a feature from windows of all activation strata: top windows and a sample over the
    range, each with its level."""
    largest = window_text.largest_activation(sampled)

    def fields(shown: ShownWindows) -> dict[str, object]:
        """Return the fields of the strata prompt: each window with its activation level."""
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
