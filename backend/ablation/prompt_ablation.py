"""Ablation on a few prompts: the parts together and each alone, with losses, KL and the tokens that
change most at every position.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from backend.ablation.ablated_forward import AblatedForward, AblationOutcome
from backend.ablation.ablation_requests import (
    MAX_DETAILED_PROMPTS,
    AblationRequest,
    check_prompt_cases,
)
from backend.ablation.harvest_means import FeatureMeans, refuse_without_harvest
from backend.ablation.model_parts import ModelPart
from backend.ablation.padded_prompts import PaddedPrompts
from backend.ablation.prompt_targets import TargetedPrompts, prepare_prompts
from backend.engine import LocalEngine
from feature_store.errors import InputError

MAX_MOVED_TOKENS = 12
"""Maximum number of tokens listed at each position: those whose probability changes most."""
AblationProgress = Callable[[int, int], None]
"""Progress callback: called with (passes done, passes in all); may raise to stop the ablation."""


@dataclass(frozen=True, eq=False)
class AblatedBlock:
    """One block of prompts, run clean and with all parts of an ablation request ablated
    together.
    """

    targeted: TargetedPrompts
    outcome: AblationOutcome
    ablation: AblatedForward

    @property
    def values(self) -> tuple[Tensor, Tensor]:
        """Target of each prompt of the block (log probability of the answer, or logit difference),
        clean and ablated, in nats, [batch] each.
        """
        return self.targeted.target(self.outcome.clean), self.targeted.target(self.outcome.ablated)

    def losses(self) -> tuple[Tensor, Tensor]:
        """Return each prompt's mean next-token loss after counted positions, clean and ablated, in
        nats [batch]; NaN where there is none.
        """
        found = []
        judged = self.targeted.prompts.counted[:, :-1] & self.targeted.prompts.real[:, 1:]
        for loss in self.outcome.losses():
            here = judged.to(loss.device)
            found.append(loss.nan_to_num().mul(here).sum(-1) / here.sum(-1))
        return found[0], found[1]

    def alone(self, part: ModelPart) -> Float[Tensor, "batch"]:
        """Return the target of each prompt of the block, in nats [batch], when only this one part
        is ablated.
        """
        return self.targeted.target(self.ablation.ablated_logits([part], self.outcome.prompts))


def prepare_ablations(
    engine: LocalEngine,
    targeted: TargetedPrompts,
    request: AblationRequest,
    means: FeatureMeans | None,
) -> Iterator[tuple[slice, TargetedPrompts, AblatedForward]]:
    """Yield the prompts of an ablation request in blocks that fit one forward pass: the rows of
    each block, its prompts, and the ablation to run on it.
    """
    everyone = set_last_positions(targeted.prompts) if request.how in ("mean", "resample") else None
    if request.how == "mean" and everyone:
        # Means are over counted tokens, even if parts are replaced at all positions.
        texts = zip(everyone.tokens.tolist(), everyone.real.sum(-1).tolist(), strict=True)
        everyone = PaddedPrompts.of([engine.text(row[:n]) for row, n in texts])
    for number, (chosen, batch) in enumerate(targeted.batches(engine.lm.d_vocab)):
        donors = batch.partners if request.how == "pair" else everyone
        given = means or refuse_without_harvest
        seed = request.seed + number
        yield (
            chosen,
            batch,
            AblatedForward(
                engine.lm, engine.dictionaries, request.how, given, donors=donors, seed=seed
            ),
        )


def ablate_blocks(
    engine: LocalEngine,
    targeted: TargetedPrompts,
    request: AblationRequest,
    means: FeatureMeans | None = None,
) -> Iterator[tuple[slice, AblatedBlock]]:
    """Run the ablation of a request on one block of prompts after another, and yield each block.

    `means` looks up the features' means in a harvest.
    """
    for chosen, batch, ablation in prepare_ablations(engine, targeted, request, means):
        outcome = ablation.run(request.parts, set_last_positions(batch.prompts))
        yield chosen, AblatedBlock(batch, outcome, ablation)


def set_last_positions(prompts: PaddedPrompts) -> PaddedPrompts:
    """Return padded prompts of an ablation with `last` set to each prompt's last real token,
    whichever position its target is read at.
    """
    return PaddedPrompts(prompts.tokens, prompts.real, prompts.counted, prompts.real.sum(-1) - 1)


@torch.no_grad()
def ablate_prompts(
    engine: LocalEngine,
    request: AblationRequest,
    means: FeatureMeans | None = None,
    tick: AblationProgress | None = None,
) -> dict[str, Any]:
    """Ablate parts on a few prompts and return the full answer as plain data (`docs/ablation.md`
    lists its fields).

    Raises InputError for parts that the model lacks, prompts that cannot be used, and targets of
    several tokens.
    """
    request.check()
    check_prompt_cases(request.cases, MAX_DETAILED_PROMPTS)
    targeted = prepare_prompts(engine, request.cases, request.how, request.positions)
    singles = request.parts if len(request.parts) > 1 else ()
    n = len(list(targeted.batches(engine.lm.d_vocab)))
    described, effects, done = [], {part: [] for part in request.parts}, 0
    for _, block in ablate_blocks(engine, targeted, request, means):
        described += describe_prompts(block)
        clean, ablated = block.values
        for part in request.parts:
            done += 1
            ablated_alone = block.alone(part) if singles else ablated
            effects[part] += (ablated_alone - clean).tolist()
            if tick:
                tick(done, n * len(request.parts))
    return assemble_answer(request, targeted, described, effects)


def assemble_answer(
    request: AblationRequest,
    targeted: TargetedPrompts,
    described: Sequence[dict[str, Any]],
    effects: dict[ModelPart, list[float]],
) -> dict[str, Any]:
    """Assemble the answer of an ablation on a few prompts, the plain data that `ablate_prompts`
    returns.
    """
    clean, ablated = ([one[side] for one in described] for side in ("clean", "ablated"))
    return {
        "target": "logit_diff" if targeted.target.against is not None else "log_prob",
        "clean": average_over_prompts(clean),
        "ablated": average_over_prompts(ablated),
        "features": [
            {"part": str(part), "effect": mean_of_known(found), "effects": found}
            for part, found in effects.items()
        ],
        "joint": mean_of_known(
            [b["value"] - a["value"] for a, b in zip(clean, ablated, strict=True)]
        ),
        "kl": described[0]["kl"] if len(described) == 1 else [one["kl"] for one in described],
        "prompts": list(described),
        "n": len(described),
        "how": request.how,
    }


def describe_prompts(block: AblatedBlock) -> list[dict[str, Any]]:
    """Return, for each prompt of an ablated block, its tokens and the losses, KL and most changed
    tokens at every position.
    """
    clean, ablated = block.values
    before, after = block.losses()
    losses, kl = block.outcome.losses(), block.outcome.kl()
    prompts, target = block.targeted.prompts, block.targeted.target
    found = []
    for row in range(len(prompts)):
        size = int(prompts.real[row].sum())
        wrong = None if target.against is None else target.against[row][0]
        found.append(
            {
                "tokens": prompts.tokens[row, :size].tolist(),
                "counted": prompts.counted[row, :size].tolist(),
                "at": int(target.last[row]),
                "answer": target.answers[row][0],
                "wrong": wrong,
                "clean": target_and_loss(float(clean[row]), float(before[row]), wrong),
                "ablated": target_and_loss(float(ablated[row]), float(after[row]), wrong),
                "loss": round_values(losses[0][row, : size - 1]),
                "loss_ablated": round_values(losses[1][row, : size - 1]),
                "kl": round_values(kl[row, :size]),
                "moved": [most_moved_tokens(block, row, at) for at in range(size)],
            }
        )
    return found


def most_moved_tokens(block: AblatedBlock, row: int, at: int) -> list[tuple[int, float, float]]:
    """Return the tokens whose next-token probability an ablation changes most at one position of a
    prompt.

    At the target's position, the target's own tokens come first.
    """
    found = block.outcome.most_moved(row, at, MAX_MOVED_TOKENS)
    target = block.targeted.target
    if at != int(target.last[row]):
        return found
    named = [target.answers[row][0]]
    named += [] if target.against is None else [target.against[row][0]]
    sides = (block.outcome.clean, block.outcome.ablated)
    p, q = (logits[row, at].float().softmax(-1) for logits in sides)
    first = [(token, float(p[token]), float(q[token])) for token in dict.fromkeys(named)]
    return first + [one for one in found if one[0] not in named]


def target_and_loss(value: float, loss: float, wrong: int | None) -> dict[str, float | None]:
    """Return the target and the loss of one prompt, clean or ablated, as plain data.

    Raises InputError if the target is NaN.
    """
    if value != value:
        raise InputError("The model's logits are not finite here. Try another dtype or prompt.")
    return {
        "value": value,
        "logit_diff": value if wrong is not None else None,
        "log_prob": None if wrong is not None else value,
        "loss": loss if loss == loss else None,
    }


def average_over_prompts(sides: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Return the mean over an ablation's prompts of target and loss."""
    return {name: mean_of_known([one[name] for one in sides]) for name in sides[0]}


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """Return the mean over an ablation's prompts of those figures that are not None; None if all
    are.
    """
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def round_values(row: Tensor) -> list[float]:
    """Return an ablation's figures rounded to six decimals, which is all that a page shows."""
    return [round(value, 6) for value in row.float().tolist()]
