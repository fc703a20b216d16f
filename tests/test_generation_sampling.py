"""Drawing tokens: the distribution that was asked for, row by row, in any company."""

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from backend.generation.records import SamplingSettings
from backend.generation.row_text import RowDecoder
from backend.generation.sampling import TokenSampler

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])
PROMPT = [0, 3]


def theirs(sampling: SamplingSettings) -> torch.Tensor:
    steps = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty),
            TemperatureLogitsWarper(sampling.temperature),
            *([TopKLogitsWarper(sampling.top_k)] if sampling.top_k else []),
            TopPLogitsWarper(sampling.top_p),
        ]
    )
    scores = steps(torch.tensor([PROMPT]), LOGITS[None].clone())  # type: ignore[arg-type]
    return scores[0].softmax(-1)


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingSettings(),
        SamplingSettings(temperature=0.5),
        SamplingSettings(top_k=3),
        SamplingSettings(top_p=0.8),
        SamplingSettings(top_k=5, top_p=0.6, temperature=1.7, repetition_penalty=1.8),
    ],
)
def test_tokens_are_as_frequent_as_transformers_would_draw_them(sampling: SamplingSettings) -> None:
    n = 4000
    sampler = TokenSampler(sampling, list(range(n)), PROMPT, len(LOGITS))
    drawn = sampler.draw(LOGITS.expand(n, -1))
    found = torch.bincount(drawn, minlength=len(LOGITS)).double()
    want = theirs(sampling).double() * n
    assert (found[want == 0] == 0).all()
    kept = want > 0
    chi2 = float(((found - want)[kept] ** 2 / want[kept]).sum())
    assert chi2 < 21  # 0.1 % point of 5 degrees of freedom


def test_a_row_draws_the_same_in_any_company() -> None:
    generator = torch.Generator().manual_seed(1)
    steps = torch.randn(6, 3, 50, generator=generator)
    together = TokenSampler(SamplingSettings(), [7, 8, 7], PROMPT, 50)
    alone = TokenSampler(SamplingSettings(), [7], PROMPT, 50)
    for logits in steps:
        got = together.draw(logits)
        assert got[2] == alone.draw(logits[2:])[0]
        same = together.draw(logits[:1].expand(3, -1))
        assert same[0] == same[2]
        alone.draw(logits[:1])


def test_a_little_change_of_the_logits_rarely_changes_the_token() -> None:
    """Rows of one seed share their noise: where distributions nearly agree, so do the tokens."""
    sampler = TokenSampler(SamplingSettings(), [5, 5], PROMPT, 1000)
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    pairs = [sampler.draw(torch.stack([logits, logits + 0.01])) for _ in range(50)]
    assert all(a == b for a, b in pairs)
    nudged = torch.stack([logits, logits + 0.05 * torch.randn(1000)])
    assert sum(int(a != b) for a, b in (sampler.draw(nudged) for _ in range(200))) < 40


class Letters:
    """One letter per token."""

    def decode(self, ids: list[int], **_: object) -> str:
        return "".join(map(chr, ids))


def spoken(text: str, *stops: str) -> tuple[list[str], RowDecoder]:
    voice = RowDecoder(Letters(), [], stops)
    pieces = []
    for letter in text:
        pieces.append(voice.add(ord(letter)))
        if voice.stopped:
            break
    return [*pieces, voice.flush()], voice


def test_what_may_be_a_stop_string_waits() -> None:
    pieces, voice = spoken("a<<b<end>c", "<end>")
    assert pieces == ["a", "", "<", "<b", "", "", "", "", "", ""]
    assert (voice.text, voice.stopped) == ("a<<b", True)


def test_what_was_not_a_stop_string_comes_out_at_the_end() -> None:
    pieces, voice = spoken("ab<en", "<end>")
    assert ("".join(pieces), voice.text, voice.stopped) == ("ab<en", "ab<en", False)
