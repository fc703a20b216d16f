"""The explainer `token-activation`: a language model sees each token with its activation from 0 to
10 (Bills et al. 2023)."""

from autointerp.contexts import FeatureSample
from autointerp.explainers import window_text
from autointerp.explainers.explainer_interface import Explainer, ExplainerTools, WrittenExplanation
from autointerp.explainers.explanation_request import request_explanation
from autointerp.explainers.prompt_windows import ShownWindows
from autointerp.llm.requests_and_replies import RequestFailure
from autointerp.scorers.prompt_templates import quote_as_json
from autointerp.text_windows import TextWindow

NAME = "token-activation"
WINDOWS_SHOWN = 6
"""Number of windows shown: a prompt line per token is long, so there are few."""


async def explain(
    sampled: FeatureSample, tools: ExplainerTools
) -> WrittenExplanation | RequestFailure:
    """Explain a feature from every token of its strongest windows and the activation on it."""
    # few windows: each takes one prompt line per token
    shown = window_text.strongest_windows(sampled)[:WINDOWS_SHOWN]
    largest = window_text.largest_activation(sampled)

    def fields(shown: ShownWindows) -> dict[str, object]:
        """Return the fields of the token-activation prompt: a table of tokens and activations for
        each window."""
        blocks = [
            f"Text {n}\n{make_token_table(e, largest)}" for n, e in enumerate(shown.windows, 1)
        ]
        return {"texts": "\n\n".join(blocks)}

    return await request_explanation(NAME, tools, shown, fields)


def make_token_table(example: TextWindow, largest: float) -> str:
    """Return a window as one line per token: the token in quotes, a tab, and its activation
    level."""
    rows = zip(example.tokens, example.activations, strict=True)
    return "\n".join(
        f"{quote_as_json(token)}\t{window_text.activation_level(a, largest)}" for token, a in rows
    )


EXPLAINER = Explainer(
    "Token by token",
    "A language model sees every token of a few strong windows with its activation, 0 to 10.",
    explain,
    frozenset(("server",)),
)
