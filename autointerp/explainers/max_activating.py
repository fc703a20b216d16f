"""The explainer `max-activating`: a language model describes what the windows of highest activation
have in common."""

from autointerp.contexts import FeatureSample
from autointerp.explainers import window_text
from autointerp.explainers.explainer_interface import Explainer, ExplainerTools, WrittenExplanation
from autointerp.explainers.explanation_request import request_explanation
from autointerp.explainers.prompt_windows import ShownWindows
from autointerp.llm.requests_and_replies import RequestFailure
from autointerp.scorers.prompt_templates import number_lines

NAME = "max-activating"


async def explain(
    sampled: FeatureSample, tools: ExplainerTools
) -> WrittenExplanation | RequestFailure:
    """Explain a feature from its max-activating windows, with strong tokens marked."""
    return await request_explanation(
        NAME, tools, window_text.strongest_windows(sampled), make_prompt_fields
    )


def make_prompt_fields(shown: ShownWindows) -> dict[str, object]:
    """Return the fields of the max-activating prompt: the windows, one per line."""
    return {"texts": number_lines([window_text.mark_firing_tokens(e) for e in shown.windows])}


EXPLAINER = Explainer(
    "Strongest windows",
    "A language model sees the windows of highest activation, strong tokens marked.",
    explain,
    frozenset(("server",)),
)
