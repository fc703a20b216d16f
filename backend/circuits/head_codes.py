"""Heads of a task by discrete codes: what a head says on examples, and never on counterexamples.

After O'Neill and Bui 2024 (arXiv:2405.12522): one small autoencoder with a single active feature
per vector is trained on the outputs of all heads at the examples' last tokens; a head's code on an
example is that feature; heads whose codes on positives do not occur on negatives are the task's.
Here the autoencoder is tied and its rows have unit length, so that training it is spherical
k-means: seeded, exact in each step, under a second. Each head's mean over the examples is taken
off first, since it is nothing that tells examples apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.ablation.prompts import Prompts
from backend.circuits.records import Circuit, Edge, Node, head_id
from backend.circuits.words import prompt_of
from backend.live import Text
from backend.lm import Lm
from feature_store.errors import InputError

METHOD = "head-codes"
CODES = 40
STEPS = 50
LEAST = 3
"""Examples of either kind below which a code that only positives have says nothing."""
ALWAYS = 0.9
EDGE = 0.5
"""Share of positives on which two heads both have codes of their own, for an edge."""
MEANS = (
    "Score: the share of positive examples on which the head's code occurs on no negative one, "
    "ties broken by how far its output is from its mean; over all heads the scores sum to one."
)


@dataclass(frozen=True, eq=False)
class HeadCodes:
    """Codes of all heads on all examples."""

    codes: Int[np.ndarray, "example layer head"]
    """Positives first."""
    own: Bool[np.ndarray, "positive layer head"]
    """Whether the code occurs on no negative."""
    strength: Float[np.ndarray, "layer head"]
    """Mean distance of the head's output on positives from its mean over all examples."""

    @property
    def share(self) -> Float[np.ndarray, "layer head"]:
        """Of positives with a code of their own."""
        return self.own.mean(0)

    @property
    def score(self) -> Float[np.ndarray, "layer head"]:
        """By share, ties by strength; sums to one."""
        strongest = max(float(self.strength.max()), 1e-12)
        raw = self.share + self.strength / strongest / (2 * len(self.own))
        return raw / raw.sum()


def head_codes(
    lm: Lm,
    positives: Sequence[Text],
    negatives: Sequence[Text],
    *,
    codes: int = CODES,
    seed: int = 0,
) -> HeadCodes:
    """One forward pass over the examples, and the autoencoder's fit. InputError for too few."""
    for kind, given in (("positive", positives), ("negative", negatives)):
        if len(given) < LEAST:
            raise InputError(
                f"{len(given)} {kind} examples are too few: give at least {LEAST}, best 5 to 10 of "
                "either kind."
            )
    x = head_outputs(lm, [*positives, *negatives])
    x = x - x.mean(0)
    found = top_one_codes(x.flatten(0, 2), codes, seed).view(x.shape[:3]).numpy()
    n = len(positives)
    # [positive negative layer head]: whether both have the same code
    same = found[:n, None] == found[None, n:]
    return HeadCodes(found, ~same.any(1), x[:n].norm(dim=-1).mean(0).numpy())


@torch.no_grad()
def head_outputs(lm: Lm, texts: Sequence[Text]) -> Float[Tensor, "example layer head d_head"]:
    """What each head gives (its z) at each text's last token, in float32 on the CPU."""
    prompts = Prompts.of(texts)
    hooks = [f"blocks.{layer}.attn.hook_z" for layer in range(lm.n_layers)]
    got = lm.activations(prompts.tokens, hooks)
    rows = torch.arange(len(prompts))
    last = [got[hook][rows, prompts.last].float().cpu() for hook in hooks]
    return torch.stack(last, 1).unflatten(-1, (lm.n_heads, -1)).clone()


def top_one_codes(x: Float[Tensor, "n d"], codes: int, seed: int) -> Int[Tensor, "n"]:
    """Each vector's one active feature in a tied autoencoder with `codes` unit rows.

    Alternates between the best feature for each vector and the best direction for each feature,
    neither of which can lower the cosine; ends when no code changes.
    """
    unit = x / x.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    generator = torch.Generator().manual_seed(seed)
    W = unit[torch.randperm(len(x), generator=generator)[:codes]]
    found = (unit @ W.T).argmax(1)
    for _ in range(STEPS):
        summed = torch.zeros_like(W).index_add_(0, found, unit)
        norm = summed.norm(dim=-1, keepdim=True)
        W = torch.where(norm > 1e-9, summed / norm.clamp_min(1e-9), W)
        new = (unit @ W.T).argmax(1)
        if torch.equal(new, found):
            break
        found = new
    return found


def head_codes_circuit(
    lm: Lm,
    positives: Sequence[Text],
    negatives: Sequence[Text],
    *,
    codes: int = CODES,
    seed: int = 0,
) -> Circuit:
    """All heads by score, with edges between heads whose own codes come together."""
    found = head_codes(lm, positives, negatives, codes=codes, seed=seed)
    shape = found.share.shape
    order = np.argsort(-found.score, axis=None, kind="stable")
    places = [tuple(int(i) for i in np.unravel_index(at, shape)) for at in order]
    nodes = [
        Node(head_id(layer, head, None), "head", layer, None, "", head,
             float(found.score[layer, head]), float(found.share[layer, head]))
        for layer, head in places
    ]  # fmt: skip
    return Circuit(
        method=METHOD,
        model=lm.name,
        prompts=tuple(prompt_of(lm.tokenizer, text) for text in positives),
        target=f"what {len(positives)} positive examples have and {len(negatives)} negative lack",
        nodes=tuple(nodes),
        edges=_edges(found),
        effect_means=MEANS,
        facts={
            "positives": len(positives),
            "negatives": len(negatives),
            "codes": codes,
            "seed": seed,
            "above_even": int((found.score > 1 / found.score.size).sum()),
        },
        notes=(
            "Codes tell which heads speak differently on positives, not that they matter: check "
            "the first of them by ablation.",
            *_too_different(found),
        ),
    )


def _too_different(found: HeadCodes) -> list[str]:
    """Said where codes cannot rank: most heads tell all positives from all negatives."""
    n = int((found.share >= ALWAYS).sum())
    if n <= found.share.size / 2:
        return []
    return [
        f"{n} of {found.share.size} heads have a code of their own on at least {ALWAYS:.0%} of the "
        "positives: the two kinds differ in more than the behaviour, and the ranking rests on the "
        "size of outputs. Make the negatives more alike the positives."
    ]


def _edges(found: HeadCodes) -> tuple[Edge, ...]:
    """From heads to heads of later layers, among those that score above even."""
    high = np.argwhere(found.score > 1 / found.score.size).tolist()
    edges = []
    for layer, head in high:
        for later, other in high:
            both = float((found.own[:, layer, head] & found.own[:, later, other]).mean())
            if later > layer and both >= EDGE:
                ends = head_id(layer, head, None), head_id(later, other, None)
                edges.append(Edge(*ends, both))
    return tuple(sorted(edges, key=lambda edge: -edge.weight))
