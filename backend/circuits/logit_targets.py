"""Logit targets of an attribution graph: logits of the next token, each written as a direction of
the final norm's output."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from backend.circuits.frozen_model import FINAL_NORM
from backend.circuits.prompt_tokens import token_texts
from backend.circuits.replacement_model import LinearReadout
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError

PROBABILITY_SHARE = 0.95
"""Probability that the selected likeliest next tokens must reach together."""
MOST_LOGITS = 10
"""Maximum number of likeliest next tokens that are selected as logit targets."""


@dataclass(frozen=True)
class LogitTarget:
    """One logit (less the mean over the vocabulary) or a difference of logits, before any soft-cap,
    that an attribution graph explains."""

    name: int | str
    """Token id of the logit target; a word for a difference of logits."""
    label: str
    probability: float
    weight: float
    """Weight among all logit targets of the graph; the weights sum to one."""
    direction: Float[Tensor, "d_model"]
    """Direction of the logit target at the output of the final norm; its dot product with that
    output is the logit."""
    offset: float
    ids: tuple[int, ...] = ()
    parts: tuple[float, ...] = ()
    """Weights of the token ids `ids`: the logit target as a weighted sum of logits, each less the
    mean over the vocabulary."""

    def linear_readout(self, lm: LanguageModel, position: int) -> LinearReadout:
        """Return the linear readout of this logit target at a position of the final norm's
        output."""
        return LinearReadout(
            lm.canonical(f"{FINAL_NORM}.hook_out"), position, self.direction, self.offset
        )


def select_likeliest_logits(
    lm: LanguageModel,
    logits: Float[Tensor, "vocab"],
    share: float = PROBABILITY_SHARE,
    most: int = MOST_LOGITS,
) -> list[LogitTarget]:
    """Select as logit targets the fewest likeliest next tokens whose probabilities sum to `share`,
    at most `most`, weighted by probability."""
    p = logits.float().softmax(-1)
    nameable = p[: lm.n_nameable]
    top = nameable.topk(min(most, len(nameable)))
    n = int((top.values.cumsum(0) < share).sum()) + 1
    ids, values = top.indices[:n], top.values[:n]
    W, b = read_unembedding(lm)
    words = token_texts(lm.tokenizer, ids.tolist())
    return [
        LogitTarget(
            token,
            word,
            value,
            value / float(values.sum()),
            *_centre_logit_direction(W, b, token),
            (token,),
            (1.0,),
        )
        for token, word, value in zip(ids.tolist(), words, values.tolist(), strict=True)
    ]


def build_logit_target(
    lm: LanguageModel,
    logits: Float[Tensor, "vocab"],
    answers: Sequence[int],
    against: Sequence[int] = (),
) -> list[LogitTarget]:
    """Build one logit target: the logit of the answer tokens less that of the tokens `against`.

    For several answers the target follows the log of their summed probability by its derivative at
    the prompt: each answer's logit weighted by its share of their probability. Raises InputError
    without an answer.
    """
    if not answers:
        raise InputError("There is no target: give the token that the graph should explain.")
    W, b = read_unembedding(lm)
    p = logits.float().softmax(-1)
    direction, offset = _mix_logit_directions(W, b, p, answers)
    parts = [
        *_probability_shares(p, answers).tolist(),
        *(-_probability_shares(p, against) if against else p[:0]).tolist(),
    ]
    label = _quote_tokens(lm, answers)
    if against:
        minus, less = _mix_logit_directions(W, b, p, against)
        direction, offset = direction - minus, offset - less
        label = f"{label} - {_quote_tokens(lm, against)}"
    single = len(answers) == 1 and not against
    name = int(answers[0]) if single else "target"
    probability = float(p[list(answers)].sum())
    ids = (*answers, *against)
    return [LogitTarget(name, label, probability, 1.0, direction, offset, ids, tuple(parts))]


def read_unembedding(
    lm: LanguageModel,
) -> tuple[Float[Tensor, "vocab d_model"], Float[Tensor, "vocab"] | None]:
    """Return the rows of the unembedding matrix W_U, which give the directions of logit targets,
    and its bias if it has one, for the tokens that have a name."""
    head = lm.bare.get_output_embeddings()
    assert head is not None, "a causal language model has an unembedding"
    weight: Tensor = head.weight  # pyright: ignore[reportAssignmentType]
    bias: Tensor | None = getattr(head, "bias", None)
    return weight[: lm.n_nameable], None if bias is None else bias[: lm.n_nameable]


def describe_logit_cap(lm: LanguageModel, what: str) -> list[str]:
    """Return a note if the model soft-caps its logits, so that logit targets are approximate;
    `what` says in which way the figures are affected."""
    cap = getattr(lm.bare.config.get_text_config(), "final_logit_softcapping", None)
    return [f"{lm.name} soft-caps its logits at {cap:g}: {what}"] if cap else []


def _centre_logit_direction(W: Tensor, b: Tensor | None, token: int) -> tuple[Tensor, float]:
    """Return the direction and offset of one logit less the mean over the vocabulary."""
    offset = 0.0 if b is None else float(b[token] - b.mean())
    return W[token] - W.mean(0), offset


def _mix_logit_directions(
    W: Tensor, b: Tensor | None, p: Tensor, tokens: Sequence[int]
) -> tuple[Tensor, float]:
    """Return the direction and offset of several logits, each weighted by its share of their
    probability, less the mean over the vocabulary."""
    ids, part = list(tokens), _probability_shares(p, tokens)
    direction = part.to(W.dtype) @ W[ids] - W.mean(0)
    offset = 0.0 if b is None else float(part.to(b.dtype) @ b[ids] - b.mean())
    return direction, offset


def _probability_shares(p: Tensor, tokens: Sequence[int]) -> Tensor:
    """Return each target token's share of the tokens' summed probability, by which their logits are
    weighted."""
    return p[list(tokens)] / p[list(tokens)].sum().clamp_min(torch.finfo(p.dtype).tiny)


def _quote_tokens(lm: LanguageModel, tokens: Sequence[int]) -> str:
    return " | ".join(repr(word) for word in token_texts(lm.tokenizer, tokens))
