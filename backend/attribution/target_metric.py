"""Target metric of an attribution: a number computed from the logits of a prompt's last token, such
as a logit difference between an answer and a wrong answer. Also tokenizes answers as they follow a
prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from feature_store.errors import InputError

MetricFunction = Callable[[Float[Tensor, "batch pos vocab"]], Float[Tensor, "batch"]]


def tokenize_continuation(
    tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str
) -> list[int]:
    """Return the token ids of a target's answer as they follow `prompt`, whatever way the tokenizer
    marks word beginnings.

    A tokenizer that puts a dummy space before every text splits " park" in two on its own, but not
    after a prompt. Raises InputError if prompt and answer merge into one token where they meet.
    """
    if not answer:
        raise InputError("An answer is empty. Give the text that should follow the prompt.")
    head, whole = (
        tokenize_without_special_tokens(tokenizer, prompt),
        tokenize_without_special_tokens(tokenizer, prompt + answer),
    )
    if whole[: len(head)] != head or len(whole) == len(head):
        raise InputError(
            f"{answer!r} does not begin with a new token after {prompt[-20:]!r}: the "
            "tokenizer joins the two. Begin the answer with a space, or move the boundary."
        )
    return whole[len(head) :]


def tokenize_single_token_answer(
    tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str
) -> int:
    """Return the token id of a target answer that is a single token after `prompt`. Raises
    InputError, with the tokens, if the answer is several."""
    found = tokenize_continuation(tokenizer, prompt, answer)
    if len(found) > 1:
        pieces = " + ".join(repr(tokenizer.decode([token])) for token in found)
        raise InputError(
            f"{answer!r} is {len(found)} tokens after this prompt: {pieces}. A target must "
            f"be one token: use the first, {tokenizer.decode(found[:1])!r}, or another word."
        )
    return found[0]


def tokenize_without_special_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the token ids of a prompt or of a target's answer, without BOS or other special
    tokens."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


@dataclass(frozen=True)
class TargetMetric:
    """Target metric: for each prompt, the log of the summed probability of its answers, less that
    of its wrong answers.

    With one answer and one wrong answer this is their logit difference; without wrong answers it is
    the log probability of the answers. With `weights` it is instead a weighted sum of logits, each
    less the mean logit of the vocabulary.
    """

    answers: Sequence[Sequence[int]]
    """Token ids of the answers whose logits the target metric reads, one set for each prompt."""
    against: Sequence[Sequence[int]] | None
    last: Int[Tensor, "batch"]
    """Position of each prompt's last token, at which the target metric reads the logits."""
    weights: Sequence[Sequence[float]] | None = None
    """One weight for each answer: the target metric is Σ weight · (logit − mean logit), and
    `against` is None."""
    n_nameable: int | None = None
    """Number of tokens, counted from the first, over which the target metric takes the mean logit;
    all tokens by default."""

    def __call__(self, logits: Float[Tensor, "batch pos vocab"]) -> Float[Tensor, "batch"]:
        """Compute the target metric in nats from logits [batch, position, vocabulary]."""
        # A batch may hold several copies of the prompts, one block after another.
        copies = len(logits) // len(self.last)
        last = self.last.to(logits.device).repeat(copies)
        rows = logits[torch.arange(len(logits), device=logits.device), last]
        rows = rows if rows.dtype == torch.float64 else rows.float()
        if self.weights is not None:
            return self._weighted(rows, self.weights)
        summed = self._summed(rows, self.answers)
        if self.against is None:
            return summed - rows.logsumexp(-1)
        return summed - self._summed(rows, self.against)

    def only(self, row: int) -> "TargetMetric":
        """Return the target metric for a single prompt of the batch, the one with index `row`."""
        return self.rows(slice(row, row + 1))

    def rows(self, chosen: slice) -> "TargetMetric":
        """Return the target metric for a slice of the batch's prompts, with their answers and wrong
        answers."""
        against = None if self.against is None else self.against[chosen]
        weights = None if self.weights is None else self.weights[chosen]
        return TargetMetric(
            self.answers[chosen], against, self.last[chosen], weights, self.n_nameable
        )

    def _weighted(self, rows: Tensor, weights: Sequence[Sequence[float]]) -> Tensor:
        """Return the weighted target metric Σ weight · (logit − mean logit) from the last-token
        logits of the prompts or of several copies of them, [row, vocabulary]."""
        copies = len(rows) // len(weights)
        ids, _ = _pad_token_sets(self.answers, rows)
        longest = ids.shape[1]
        each = rows.new_tensor([[*one, *[0.0] * (longest - len(one))] for one in weights])
        mean = rows[:, : self.n_nameable].mean(-1, keepdim=True)
        found = rows.gather(1, ids.repeat(copies, 1)) - mean
        return (found * each.repeat(copies, 1)).sum(-1)

    def _summed(self, rows: Tensor, sets: Sequence[Sequence[int]]) -> Tensor:
        """Return the log of the summed exponentials of the answers' logits, one set of answers for
        each prompt, from the last-token logits of the prompts or of several copies of them, [row,
        vocabulary]."""
        copies = len(rows) // len(sets)
        ids, extra = _pad_token_sets(sets, rows)
        found = rows.gather(1, ids.repeat(copies, 1))
        return found.masked_fill(extra.repeat(copies, 1), -torch.inf).logsumexp(-1)


def _pad_token_sets(
    sets: Sequence[Sequence[int]], like: Tensor
) -> tuple[Int[Tensor, "set longest"], Bool[Tensor, "set longest"]]:
    """Pad the answer token sets of a target metric to equal length; return the ids and the mask of
    the padding, on the device of `like`.

    One copy to the device serves all rows: an index made from a list would be copied for each
    row.
    """
    longest = max(map(len, sets))
    ids = torch.tensor([[*one, *[one[0]] * (longest - len(one))] for one in sets])
    extra = torch.arange(longest) >= torch.tensor([len(one) for one in sets])[:, None]
    return ids.to(like.device), extra.to(like.device)
