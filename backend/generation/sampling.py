"""Sampling of the next token from logits, for all rows of a batch at once, with each row
independent of the others.

A token is sampled by dividing probabilities by exponential noise and taking the largest (the
Gumbel-max trick). The noise of a row depends only on its seed and the step, so rows with one seed
take the same token wherever their distributions allow, and differ by their edits rather than by
chance.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.generation.records import SamplingSettings

SMALLEST_NOISE = torch.finfo(torch.float32).tiny
"""Lower bound of the exponential noise, so that its logarithm is finite."""


class TokenSampler:
    """Samples the next token of each row with temperature, top-k, top-p and repetition penalty."""

    def __init__(
        self, sampling: SamplingSettings, seeds: Sequence[int], tokens: Sequence[int], vocab: int
    ) -> None:
        """Create a sampler for rows with the given seeds.

        `tokens` are the prompt's, which the repetition penalty counts as seen. Token ids from
        `vocab` on, which no tokenizer names, are never sampled.
        """
        self._sampling = sampling
        self._vocab = vocab
        distinct = list(dict.fromkeys(seeds))
        self._noises = [torch.Generator().manual_seed(seed) for seed in distinct]
        self._noise_of = None
        if len(distinct) > 1:
            self._noise_of = torch.tensor([distinct.index(seed) for seed in seeds])
        self._seen: Tensor | None = None
        if sampling.repetition_penalty != 1:
            self._seen = torch.zeros(len(seeds), vocab, dtype=torch.bool)
            self._seen[:, [token for token in set(tokens) if token < vocab]] = True

    def draw(self, logits: Float[Tensor, "row vocab"]) -> Int[Tensor, "row"]:
        """Sample the next token of each row from logits [row, vocabulary]."""
        scores = logits[:, : self._vocab].float()
        if self._seen is not None:
            scores = self._penalised(scores)
        if self._sampling.temperature == 0:
            drawn = scores.argmax(-1)
        else:
            if self._sampling.temperature != 1:
                scores = scores / self._sampling.temperature
            scores = self._keep_top(scores)
            # argmax(p / E) = argmax(log p - log E) with exponential noise E is a sample from p.
            drawn = (scores - self._log_noise(scores)).argmax(-1)
        if self._seen is not None:
            self._seen[torch.arange(len(drawn)), drawn.cpu()] = True
        return drawn

    def _log_noise(self, scores: Tensor) -> Float[Tensor, "row vocab"]:
        """Return the logarithm of each row's exponential noise for sampling."""
        rows = [torch.empty(scores.shape[-1]).exponential_(generator=g) for g in self._noises]
        noise = rows[0][None] if self._noise_of is None else torch.stack(rows)[self._noise_of]
        return noise.clamp_min_(SMALLEST_NOISE).log_().to(scores.device)

    def _penalised(self, scores: Tensor) -> Tensor:
        assert self._seen is not None
        penalty = self._sampling.repetition_penalty
        less = torch.where(scores > 0, scores / penalty, scores * penalty)
        return torch.where(self._seen.to(scores.device), less, scores)

    def _keep_top(self, scores: Tensor) -> Tensor:
        """Restrict the tokens to sample from to the top k, and then to the top p of the rest, by
        setting the other tokens' logits to −∞.
        """
        k, p = self._sampling.top_k, self._sampling.top_p
        if 0 < k < scores.shape[-1]:
            least = scores.topk(k, dim=-1).values[:, -1:]
            scores = scores.masked_fill(scores < least, -torch.inf)
        if p < 1:
            ordered, at = scores.sort(descending=True)
            before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
            drop = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, at, before >= p)
            scores = scores.masked_fill(drop, -torch.inf)
        return scores
