"""Prompts of an ablation together with their targets: tokenized into one padded batch, with the
answer token, wrong token and position of each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from backend.ablation.ablation_requests import PromptCase
from backend.ablation.model_parts import AblationKind
from backend.ablation.padded_prompts import PaddedPrompts
from backend.attribution.target_metric import TargetMetric, tokenize_single_token_answer
from backend.engine import LocalEngine
from backend.engine_protocol import TokenizedText
from backend.model.vocabulary import check_token_ids
from feature_store.errors import InputError

MAX_LOGITS_PER_PASS = 1 << 24
"""Maximum number of logits in one forward pass (64 MB in float32); a few such tensors exist at a
time.
"""
MAX_ROWS_PER_PASS = 64
"""Maximum number of prompts in one forward pass."""


@dataclass(frozen=True, eq=False)
class TargetedPrompts:
    """A padded batch of prompts with the target to measure on each: the log probability of an
    answer token, or its logit difference to a wrong answer. `prompts.last` is the position of the
    target.
    """

    prompts: PaddedPrompts
    target: TargetMetric
    partners: PaddedPrompts | None
    """Partner prompts to patch activations from; None where there are none."""

    def __len__(self) -> int:
        return len(self.prompts)

    def rows(self, chosen: slice) -> "TargetedPrompts":
        """Return the prompts and targets of a slice of the batch's rows, with the same padding."""
        partners = None if self.partners is None else self.partners.rows(chosen)
        return TargetedPrompts(self.prompts.rows(chosen), self.target.rows(chosen), partners)

    def batches(self, vocab: int, copies: int = 1) -> Iterator[tuple[slice, "TargetedPrompts"]]:
        """Yield (rows, prompts with targets) in batches that fit one forward pass.

        The same prompts are always split in the same way.
        """
        size = max(
            1,
            min(
                MAX_ROWS_PER_PASS,
                MAX_LOGITS_PER_PASS // (vocab * self.prompts.tokens.shape[1] * copies),
            ),
        )
        for begin in range(0, len(self), size):
            chosen = slice(begin, begin + size)
            yield chosen, self.rows(chosen)


def prepare_prompts(
    engine: LocalEngine,
    cases: Sequence[PromptCase],
    how: AblationKind = "zero",
    positions: str = "counted",
) -> TargetedPrompts:
    """Tokenize prompt cases and resolve the target token and position of each.

    Raises InputError that names the prompt which cannot be used.
    """
    texts = [_number_errors(i, _tokenize_case, engine, case) for i, case in enumerate(cases, 1)]
    prompts = PaddedPrompts.of(texts)
    ends = [
        _target_position(i, case, text)
        for i, (case, text) in enumerate(zip(cases, texts, strict=True), 1)
    ]
    prompts = replace(prompts, last=torch.tensor(ends))
    if positions == "all":
        prompts = replace(prompts, counted=prompts.real)
    partners = _prepare_partners(engine, cases, prompts, positions) if how == "pair" else None
    answers = _answer_tokens(engine, cases, texts, prompts)
    against = None
    if all(case.wrong for case in cases):
        against = [
            [_number_errors(i, _single_token, engine, case, texts[i - 1], end, case.wrong)]
            for i, (case, end) in enumerate(zip(cases, ends, strict=True), 1)
        ]
    return TargetedPrompts(prompts, TargetMetric(answers, against, prompts.last), partners)


def _number_errors(number: int, what, *given):
    """Call `what(*given)` for one prompt, and put the prompt's number in front of the message of an
    InputError.
    """
    try:
        return what(*given)
    except InputError as bad:
        raise InputError(f"Prompt {number}: {bad}") from bad


def _tokenize_case(engine: LocalEngine, case: PromptCase) -> TokenizedText:
    """Tokenize the prompt of a case, or use the token ids that the case gives instead."""
    if not case.tokens:
        return engine.read(case.prompt)
    if max(case.tokens) >= engine.lm.n_nameable:
        raise InputError(f"token {max(case.tokens)} is not in {engine.lm.name}'s vocabulary.")
    return engine.text(list(case.tokens))


def _target_position(number: int, case: PromptCase, text: TokenizedText) -> int:
    """Return the position in a prompt at which its target is read: the next token after it is the
    answer. By default it is the prompt's last token.

    InputError for a position that the prompt does not have.
    """
    last = len(text.token_ids) - 1
    if case.at is not None and case.at > last:
        raise InputError(f"Prompt {number} has positions 0 to {last}, not {case.at}.")
    return last if case.at is None else case.at


def _prepare_partners(
    engine: LocalEngine, cases: Sequence[PromptCase], prompts: PaddedPrompts, positions: str
) -> PaddedPrompts:
    """Tokenize the second prompts that the ablation kind "pair" patches from, as partners of the
    targeted prompts.
    """
    missing = [i for i, case in enumerate(cases, 1) if not case.pair]
    if missing:
        raise InputError(
            f"Prompt {missing[0]} has no second prompt to patch from: type one of the same length."
        )
    texts = [_number_errors(i, engine.read, case.pair) for i, case in enumerate(cases, 1)]
    found = PaddedPrompts.of(texts)
    replace(prompts, last=prompts.real.sum(-1) - 1).check_pair(found)
    return replace(found, counted=found.real) if positions == "all" else found


def _answer_tokens(
    engine: LocalEngine,
    cases: Sequence[PromptCase],
    texts: Sequence[TokenizedText],
    prompts: PaddedPrompts,
) -> list[list[int]]:
    """Return the target token (answer) of each prompt: the given answer, else the token that
    follows the target position, else the most likely next token.
    """
    found: list[list[int]] = []
    open_ones: list[int] = []
    for row, (case, text) in enumerate(zip(cases, texts, strict=True)):
        end = int(prompts.last[row])
        if case.answer:
            found.append(
                [_number_errors(row + 1, _single_token, engine, case, text, end, case.answer)]
            )
        elif end + 1 < len(text.token_ids):
            found.append([text.token_ids[end + 1]])
        else:
            found.append([])
            open_ones.append(row)
    for row in open_ones:
        end = int(prompts.last[row])
        ((likeliest, _),) = engine.predict_next_tokens(texts[row], end, 1)
        found[row] = [likeliest]
    for number, ids in enumerate(found, 1):
        _number_errors(number, check_token_ids, ids, engine.lm.d_vocab)
    return found


def _single_token(
    engine: LocalEngine, case: PromptCase, text: TokenizedText, end: int, answer: str
) -> int:
    """Return the token id of the answer, or wrong answer, that a prompt's target compares,
    tokenized as it follows the prompt.

    InputError for an answer of several tokens.
    """
    if case.tokens or case.at is not None:
        return engine.find_target_token(text, end, answer)
    return tokenize_single_token_answer(engine.lm.tokenizer, case.prompt, answer)
