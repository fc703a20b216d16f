"""What an effect is an effect on: a number read from the logits of a prompt's last token."""

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
    """The ids of `answer` as they follow `prompt`, however the tokenizer writes word beginnings.

    A tokenizer that puts a dummy space before every text splits " park" on its own in two, but not
    behind a prompt. InputError when the two merge into one token at the border.
    """
    if not answer:
        raise InputError("An answer is empty. Give the text that would follow the prompt.")
    head, whole = (
        tokenize_without_special_tokens(tokenizer, prompt),
        tokenize_without_special_tokens(tokenizer, prompt + answer),
    )
    if whole[: len(head)] != head or len(whole) == len(head):
        raise InputError(
            f"{answer!r} does not begin a new token behind {prompt[-20:]!r}: the tokenizer joins "
            "them. Begin the answer with a space, or move the border."
        )
    return whole[len(head) :]


def tokenize_single_token_answer(
    tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str
) -> int:
    """The single token that `answer` is behind `prompt`; InputError that says how it splits."""
    found = tokenize_continuation(tokenizer, prompt, answer)
    if len(found) > 1:
        pieces = " + ".join(repr(tokenizer.decode([token])) for token in found)
        raise InputError(
            f"{answer!r} is {len(found)} tokens behind this prompt: {pieces}. A target is one "
            f"token; take the first, {tokenizer.decode(found[:1])!r}, or another word."
        )
    return found[0]


def tokenize_without_special_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """A text's token ids, without special tokens."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


@dataclass(frozen=True)
class TargetMetric:
    """For each prompt: log of the summed probability of its answers, less that of others.

    With one answer and one other this is their logit difference; without others it is the answers'
    log probability. With `weights` it is a sum of logits instead, each less the vocabulary's mean.
    """

    answers: Sequence[Sequence[int]]
    """Token ids, a set for each prompt."""
    against: Sequence[Sequence[int]] | None
    last: Int[Tensor, "batch"]
    """The position that is read: each prompt's last token."""
    weights: Sequence[Sequence[float]] | None = None
    """One for each answer: Σ weight · (logit - mean logit); `against` is None then."""
    n_nameable: int | None = None
    """How many tokens the mean logit is over, the first ones; all by default."""

    def __call__(self, logits: Float[Tensor, "batch pos vocab"]) -> Float[Tensor, "batch"]:
        """In nats (a difference of logits)."""
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
        """The same for one of the prompts."""
        return self.rows(slice(row, row + 1))

    def rows(self, chosen: slice) -> "TargetMetric":
        """The same for some of the prompts."""
        against = None if self.against is None else self.against[chosen]
        weights = None if self.weights is None else self.weights[chosen]
        return TargetMetric(
            self.answers[chosen], against, self.last[chosen], weights, self.n_nameable
        )

    def _weighted(self, rows: Tensor, weights: Sequence[Sequence[float]]) -> Tensor:
        """Σ weight · (logit − mean logit) of each row: [copies · sets]."""
        copies = len(rows) // len(weights)
        ids, _ = _pad_token_sets(self.answers, rows)
        longest = ids.shape[1]
        each = rows.new_tensor([[*one, *[0.0] * (longest - len(one))] for one in weights])
        mean = rows[:, : self.n_nameable].mean(-1, keepdim=True)
        found = rows.gather(1, ids.repeat(copies, 1)) - mean
        return (found * each.repeat(copies, 1)).sum(-1)

    def _summed(self, rows: Tensor, sets: Sequence[Sequence[int]]) -> Tensor:
        """The logarithm of the summed exponentials of each row's tokens: [copies · sets]."""
        copies = len(rows) // len(sets)
        ids, extra = _pad_token_sets(sets, rows)
        found = rows.gather(1, ids.repeat(copies, 1))
        return found.masked_fill(extra.repeat(copies, 1), -torch.inf).logsumexp(-1)


def _pad_token_sets(
    sets: Sequence[Sequence[int]], like: Tensor
) -> tuple[Int[Tensor, "set longest"], Bool[Tensor, "set longest"]]:
    """Token ids of all sets, and which of them only fill up a shorter set; on `like`'s device.

    One copy to the device serves all rows: an index made of a list would be a copy for each.
    """
    longest = max(map(len, sets))
    ids = torch.tensor([[*one, *[one[0]] * (longest - len(one))] for one in sets])
    extra = torch.arange(longest) >= torch.tensor([len(one) for one in sets])[:, None]
    return ids.to(like.device), extra.to(like.device)
