"""Run an ablation on its prompts: the parts away together and one by one, every token told."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from backend.ablation.asked import AT_ONCE, Asked, check_cases
from backend.ablation.laying import Laid, lay_out
from backend.ablation.means import Means, no_harvest
from backend.ablation.parts import Part
from backend.ablation.prompts import Prompts
from backend.ablation.run import Ablation, Outcome
from backend.engine import LocalEngine
from feature_store.errors import InputError

MOVED = 12
"""Tokens told for each position: those whose probability moves most."""
Tick = Callable[[int, int], None]
"""Hears (passes done, passes in all); may raise to stop."""


@dataclass(frozen=True, eq=False)
class Block:
    """Some of the cases, measured: the parts away together."""

    laid: Laid
    outcome: Outcome
    ablation: Ablation

    @property
    def values(self) -> tuple[Tensor, Tensor]:
        """The target, clean and ablated [batch], in nats."""
        return self.laid.target(self.outcome.clean), self.laid.target(self.outcome.ablated)

    def losses(self) -> tuple[Tensor, Tensor]:
        """Mean next-token loss behind counted positions [batch], nats; NaN where there is none."""
        found = []
        judged = self.laid.prompts.counted[:, :-1] & self.laid.prompts.real[:, 1:]
        for loss in self.outcome.losses():
            here = judged.to(loss.device)
            found.append(loss.nan_to_num().mul(here).sum(-1) / here.sum(-1))
        return found[0], found[1]

    def alone(self, part: Part) -> Float[Tensor, "batch"]:
        """The target with only this part away."""
        return self.laid.target(self.ablation.without([part], self.outcome.prompts))


def settled(
    engine: LocalEngine, laid: Laid, asked: Asked, means: Means | None
) -> Iterator[tuple[slice, Laid, Ablation]]:
    """The cases in blocks that fit a pass, each with what stands in the parts' place there."""
    everyone = whole(laid.prompts) if asked.how in ("mean", "resample") else None
    if asked.how == "mean" and everyone:  # a mean is over counted tokens, wherever it is put
        texts = zip(everyone.tokens.tolist(), everyone.real.sum(-1).tolist(), strict=True)
        everyone = Prompts.of([engine.text(row[:n]) for row, n in texts])
    for number, (chosen, some) in enumerate(laid.batches(engine.lm.d_vocab)):
        donors = some.partners if asked.how == "pair" else everyone
        given = means or no_harvest
        seed = asked.seed + number
        yield (
            chosen,
            some,
            Ablation(engine.lm, engine.dictionaries, asked.how, given, donors=donors, seed=seed),
        )


def blocks(
    engine: LocalEngine, laid: Laid, asked: Asked, means: Means | None = None
) -> Iterator[tuple[slice, Block]]:
    """The cases, measured block by block. `means` gives features' means (a harvest's)."""
    for chosen, some, ablation in settled(engine, laid, asked, means):
        outcome = ablation.outcome(asked.parts, whole(some.prompts))
        yield chosen, Block(some, outcome, ablation)


def whole(prompts: Prompts) -> Prompts:
    """Prompts to their ends, wherever their targets are read."""
    return Prompts(prompts.tokens, prompts.real, prompts.counted, prompts.real.sum(-1) - 1)


@torch.no_grad()
def ablate(
    engine: LocalEngine, asked: Asked, means: Means | None = None, tick: Tick | None = None
) -> dict[str, Any]:
    """The whole answer as plain data; see `docs/ablation.md` for its fields.

    InputError for parts that the model lacks, prompts that do not go, targets of several tokens.
    """
    asked.check()
    check_cases(asked.cases, AT_ONCE)
    laid = lay_out(engine, asked.cases, asked.how, asked.positions)
    singles = asked.parts if len(asked.parts) > 1 else ()
    n = len(list(laid.batches(engine.lm.d_vocab)))
    told, effects, done = [], {part: [] for part in asked.parts}, 0
    for _, block in blocks(engine, laid, asked, means):
        told += prompts_told(block)
        clean, ablated = block.values
        for part in asked.parts:
            done += 1
            gone = block.alone(part) if singles else ablated
            effects[part] += (gone - clean).tolist()
            if tick:
                tick(done, n * len(asked.parts))
    return answer(asked, laid, told, effects)


def answer(
    asked: Asked, laid: Laid, told: Sequence[dict[str, Any]], effects: dict[Part, list[float]]
) -> dict[str, Any]:
    """What `ablate` gives."""
    clean, ablated = ([one[side] for one in told] for side in ("clean", "ablated"))
    return {
        "target": "logit_diff" if laid.target.against is not None else "log_prob",
        "clean": averaged(clean),
        "ablated": averaged(ablated),
        "features": [
            {"part": str(part), "effect": mean(found), "effects": found}
            for part, found in effects.items()
        ],
        "joint": mean([b["value"] - a["value"] for a, b in zip(clean, ablated, strict=True)]),
        "kl": told[0]["kl"] if len(told) == 1 else [one["kl"] for one in told],
        "prompts": list(told),
        "n": len(told),
        "how": asked.how,
    }


def prompts_told(block: Block) -> list[dict[str, Any]]:
    """Each prompt of a block: its tokens and what happens at every one."""
    clean, ablated = block.values
    before, after = block.losses()
    losses, kl = block.outcome.losses(), block.outcome.kl()
    prompts, target = block.laid.prompts, block.laid.target
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
                "clean": side(float(clean[row]), float(before[row]), wrong),
                "ablated": side(float(ablated[row]), float(after[row]), wrong),
                "loss": numbers(losses[0][row, : size - 1]),
                "loss_ablated": numbers(losses[1][row, : size - 1]),
                "kl": numbers(kl[row, :size]),
                "moved": [moved(block, row, at) for at in range(size)],
            }
        )
    return found


def moved(block: Block, row: int, at: int) -> list[tuple[int, float, float]]:
    """The tokens that move most behind a position; at the target's, its own tokens in front."""
    found = block.outcome.moved(row, at, MOVED)
    target = block.laid.target
    if at != int(target.last[row]):
        return found
    named = [target.answers[row][0]]
    named += [] if target.against is None else [target.against[row][0]]
    sides = (block.outcome.clean, block.outcome.ablated)
    p, q = (logits[row, at].float().softmax(-1) for logits in sides)
    first = [(token, float(p[token]), float(q[token])) for token in dict.fromkeys(named)]
    return first + [one for one in found if one[0] not in named]


def side(value: float, loss: float, wrong: int | None) -> dict[str, float | None]:
    """One run's numbers: `value` is the target, named `logit_diff` where it is one."""
    if value != value:
        raise InputError("The model's logits are not numbers here. Try another dtype or prompt.")
    return {
        "value": value,
        "logit_diff": value if wrong is not None else None,
        "log_prob": None if wrong is not None else value,
        "loss": loss if loss == loss else None,
    }


def averaged(sides: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """The mean over prompts of each number."""
    return {name: mean([one[name] for one in sides]) for name in sides[0]}


def mean(values: Sequence[float | None]) -> float | None:
    """None where nothing is known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def numbers(row: Tensor) -> list[float]:
    """Rounded: what a page shows needs no more."""
    return [round(value, 6) for value in row.float().tolist()]
