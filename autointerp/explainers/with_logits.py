"""The explainer `with-logits`: a language model describes what a feature fires on, or which tokens
its logit lens promotes, whichever explains more."""

from autointerp.contexts import FeatureSample
from autointerp.explainers import window_text
from autointerp.explainers.explainer_interface import Explainer, ExplainerTools, WrittenExplanation
from autointerp.explainers.explanation_request import request_explanation
from autointerp.explainers.prompt_windows import ShownWindows
from autointerp.llm.requests_and_replies import RequestFailure
from autointerp.scorers.prompt_templates import list_as_json, number_lines

NAME = "with-logits"
TOKENS_NAMED = 10
"""Number of promoted and of suppressed tokens that the with-logits prompt names."""


async def explain(
    sampled: FeatureSample, tools: ExplainerTools
) -> WrittenExplanation | RequestFailure:
    """Explain a feature from its strongest windows, the tokens at and after their peaks, and the
    logits of the logit lens."""
    shown = window_text.strongest_windows(sampled)

    def fields(shown: ShownWindows) -> dict[str, object]:
        """Return the fields of the with-logits prompt: windows, peak tokens, next tokens, promoted
        and suppressed tokens."""
        return {
            "texts": number_lines([window_text.mark_firing_tokens(e) for e in shown.windows]),
            "peaks": list_as_json(window_text.peak_tokens(shown.windows)),
            "nexts": list_as_json(window_text.peak_tokens(shown.windows, 1)),
            "promoted": list_as_json(sampled.promoted[:TOKENS_NAMED])
            if sampled.promoted
            else "not known",
            "suppressed": list_as_json(sampled.suppressed[:TOKENS_NAMED])
            if sampled.suppressed
            else "not known",
        }

    return await request_explanation(NAME, tools, shown, fields)


EXPLAINER = Explainer(
    "With promoted tokens",
    "A language model sees strong windows, the tokens after their peaks, and the tokens that the "
    "feature promotes.",
    explain,
    frozenset(("server",)),
)
