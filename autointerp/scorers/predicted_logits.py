"""The predicted-logits scorer: does the label tell which tokens the feature promotes?

Of two tokens, the judge picks the one that the feature promotes by its direct effect on the logits;
the other token is as frequent in the corpus. Each pair is asked about in both orders, so a judge
that always says the same has one half. Value: the share of right answers. An explainer that was
shown the promoted tokens may simply have copied them into the label.
"""

from dataclasses import dataclass

import numpy as np

from autointerp.contexts import FeatureSample
from autointerp.scorers.judge_requests import judge_in_batches, make_generator
from autointerp.scorers.prompt_templates import list_as_json, load_score_prompt
from autointerp.scorers.scorer_interface import JudgedItem, LabelScore, Scorer, ScorerTools
from feature_store.statistics import ClassAnswers, Estimate, answer_rate

NAME = "predicted-logits"
PROMPT = "predicted_logits"
CONTROLS = 2
"""Number of control tokens that each promoted token is compared with."""
RANDOM, SUPPRESSED = "random", "suppressed"


@dataclass(frozen=True)
class TokenPair:
    """A token with a promoted logit and another token, in the order shown to the judge."""

    promoted: str
    other: str
    kind: str
    first: bool
    """Whether the promoted token is shown first."""
    token: int
    """Rank of the promoted token."""

    @property
    def shown(self) -> tuple[str, str]:
        """The two tokens of a predicted-logits question, in the order in which the judge sees
        them."""
        return (self.promoted, self.other) if self.first else (self.other, self.promoted)


def make_token_pairs(windows: FeatureSample, tools: ScorerTools) -> list[TokenPair]:
    """Return pairs of each token whose logit the feature promotes with equally frequent control
    tokens, and with a suppressed token."""
    generator = make_generator(tools, windows.feature.index)
    found: list[TokenPair] = []
    for rank, token in enumerate(windows.promoted):
        others = [
            (other, RANDOM) for other in draw_control_tokens(windows, token, tools, generator)
        ]
        others += [(other, SUPPRESSED) for other in windows.suppressed[rank : rank + 1]]
        found += [
            TokenPair(token, other, kind, first, rank)
            for other, kind in others
            for first in (True, False)
        ]
    return found


def draw_control_tokens(
    windows: FeatureSample, token: str, tools: ScorerTools, generator: np.random.Generator
) -> tuple[str, ...]:
    """Draw control tokens whose logits the feature neither promotes nor suppresses: of equal corpus
    frequency, or from random windows."""
    excluded = {*windows.promoted, *windows.suppressed}
    if tools.counts is not None:
        return tools.counts.near(token, excluded, CONTROLS, generator)
    seen_tokens = sorted({t for e in windows.random for t in e.tokens if t} - excluded)
    return tuple(
        seen_tokens[i] for i in generator.permutation(len(seen_tokens))[:CONTROLS].tolist()
    )


async def score(label: str, windows: FeatureSample, tools: ScorerTools) -> LabelScore:
    """Score a label by predicted logits: the share of promoted tokens picked against random ones,
    with `suppressed` as a part."""
    pairs = make_token_pairs(windows, tools)
    lines = [list_as_json(pair.shown) for pair in pairs]
    generator = make_generator(tools, windows.feature.index)
    verdicts, calls = await judge_in_batches(
        PROMPT, label, lines, [pair.token for pair in pairs], tools, generator, options=(1, 2)
    )
    rows = []
    for pair, verdict in zip(pairs, verdicts, strict=True):
        answer, probability = verdict.answer, verdict.probability
        # the judge answers 1 or 2: 1 is right where the promoted token stands first
        right = None if answer is None else float((answer == 1.0) == pair.first)
        if probability is not None and not pair.first:
            probability = 1 - probability
        rows.append(
            JudgedItem(-1, -1, pair.token, pair.kind, 1.0, right, probability, verdict.failed)
        )
    parts = {SUPPRESSED: share_right(rows, SUPPRESSED)} if windows.suppressed else {}
    detail = {
        "prompt": load_score_prompt(PROMPT).version,
        "tokens": [list(pair.shown) for pair in pairs],
        "controls": "tokens of silent windows" if tools.counts is None else "tokens as frequent",
    }
    failed = sum(row.answer is None for row in rows)
    value = share_right(rows, RANDOM)
    return LabelScore(NAME, "share right", value, parts, tuple(rows), failed, calls, detail)


def share_right(rows: list[JudgedItem], kind: str) -> Estimate:
    """Return the share of right predictions about one kind of token pairs; all pairs of one
    promoted token are treated as one cluster."""
    answered = [row for row in rows if row.kind == kind and row.answer is not None]
    return answer_rate(
        ClassAnswers.of([row.answer == 1.0 for row in answered], [row.document for row in answered])
    )


SCORER = Scorer(
    "Predicted logits",
    "The judge picks the token that the feature promotes, of two that are equally frequent.",
    "share right",
    0.5,
    score,
)
