"""The explainer `pattern`: counts token patterns in the windows; it needs no language model, and is
the baseline that every other explainer has to beat."""

import asyncio

from autointerp.contexts import FeatureSample
from autointerp.explainers.explainer_interface import Explainer, ExplainerTools, WrittenExplanation
from autointerp.llm.requests_and_replies import RequestFailure
from autointerp.patterns import learn_patterns, render_rule

NAME = "pattern"


async def explain(
    sampled: FeatureSample, tools: ExplainerTools
) -> WrittenExplanation | RequestFailure:
    """Explain a feature by the sentence of the patterns learned from firing and silent windows of
    the explain split.

    `detail` has the patterns as data, with how often each occurs in these windows and fires there.
    """
    learnt = await asyncio.to_thread(learn_patterns, sampled)
    rule = learnt.rule.as_json()
    for pattern, seen, fired in zip(rule["patterns"], learnt.seen, learnt.fired, strict=True):
        pattern.update(seen=seen, fired=fired)
    firing = (*sampled.explain, *sampled.explain_more)
    rule["silent_windows"] = len(sampled.explain_random) + len(sampled.explain_hard)
    return WrittenExplanation(
        render_rule(learnt.rule), NAME, shown=tuple(example.key for example in firing), detail=rule
    )


EXPLAINER = Explainer(
    "Patterns",
    "No language model: the tokens, beginnings and shapes that distinguish firing windows from "
    "silent ones, and the promoted tokens.",
    explain,
    uses_silent=True,
)
