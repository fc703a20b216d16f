"""Heads of a task by discrete codes: what a head says on examples, and never on counterexamples.

After O'Neill and Bui 2024 (arXiv:2405.12522): one small discrete autoencoder is trained on the
outputs of all heads at the examples' last tokens; a head's code on an example is the one feature
that stands for its output; heads whose codes on positives do not occur on negatives are the task's.
Here the autoencoder is a codebook fitted by squared error (k-means): seeded, milliseconds. An
output is what the head adds to the residual stream, as a share of the stream's length there: what
later norms make of it, so that early layers, whose stream is short, count like late ones. Each
head's mean over the examples is taken off first, since it is nothing that tells examples apart.
Heads that say next to nothing share the codes near 0, and none of these is their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.ablation.padded_prompts import PaddedPrompts
from backend.circuits.prompt_tokens import build_circuit_prompt
from backend.circuits.records import Circuit, CircuitEdge, CircuitNode, head_id
from backend.engine_protocol import TokenizedText
from backend.features.logit_lens import map_to_residual_stream
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError

METHOD = "head-codes"
CODEBOOK_SIZE = 10
FEWEST_EXAMPLES = 3
"""Examples of either kind below which a code that only positives have says nothing."""
ALMOST_ALWAYS = 0.9
EDGE_THRESHOLD = 0.5
"""Share of positives on which two heads both have codes of their own, for an edge."""
SCORE_MEANING = (
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
    """Mean distance of the head's output on positives from its mean over all examples, as a share
    of the stream's length."""

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


def fit_head_codes(
    lm: LanguageModel,
    positives: Sequence[TokenizedText],
    negatives: Sequence[TokenizedText],
    *,
    codes: int = CODEBOOK_SIZE,
    seed: int = 0,
) -> HeadCodes:
    """One forward pass over the examples, and the autoencoder's fit. InputError for too few."""
    for kind, given in (("positive", positives), ("negative", negatives)):
        if len(given) < FEWEST_EXAMPLES:
            raise InputError(
                f"{len(given)} {kind} examples are too few: give at least {FEWEST_EXAMPLES}, "
                f"best 5 to 10 of "
                "either kind."
            )
    x = read_head_outputs(lm, [*positives, *negatives])
    x = x - x.mean(0)
    found = assign_nearest_codes(x.flatten(0, 2).numpy(), codes, seed).reshape(x.shape[:3])
    n = len(positives)
    # [positive negative layer head]: whether both have the same code
    same = found[:n, None] == found[None, n:]
    return HeadCodes(found, ~same.any(1), x[:n].norm(dim=-1).mean(0).numpy())


@torch.no_grad()
def read_head_outputs(
    lm: LanguageModel, texts: Sequence[TokenizedText]
) -> Float[Tensor, "example layer head width"]:
    """What each head writes at each text's last token, as a share of the stream's mean length.

    In float32 on the CPU. Where attention does not enter the stream as it is (a norm stands
    between), what it writes is the head's z, as a share of its layer's root mean square.
    """
    prompts = PaddedPrompts.of(texts)
    layers = range(lm.n_layers)
    z, stream = (
        [f"blocks.{layer}.{name}" for layer in layers] for name in ("attn.hook_z", "hook_resid_pre")
    )
    got = lm.activations(prompts.tokens, [*z, *stream])
    rows = torch.arange(len(prompts))
    at = {hook: got[hook][rows, prompts.last].float() for hook in got}
    shares = [_head_shares_of_stream(lm, at[z[i]], at[stream[i]], z[i]) for i in layers]
    return torch.stack(shares, 1).cpu()


def _head_shares_of_stream(
    lm: LanguageModel,
    z: Float[Tensor, "example z"],
    stream: Float[Tensor, "example d_model"],
    hook: str,
) -> Float[Tensor, "example head width"]:
    by_head = z.unflatten(-1, (lm.n_heads, -1))
    W_O = map_to_residual_stream(lm, torch.eye(z.shape[-1]), hook)
    if W_O is None:
        return by_head / by_head.pow(2).mean().sqrt()
    written = torch.einsum("nhd,hdm->nhm", by_head, W_O.unflatten(0, (lm.n_heads, -1)))
    return written / stream.norm(dim=-1).mean()


def assign_nearest_codes(
    x: Float[np.ndarray, "n d"], codes: int, seed: int
) -> Int[np.ndarray, "n"]:
    """Each vector's entry in a codebook of at most `codes`, fitted to them by squared error."""
    from sklearn.cluster import KMeans

    codes = min(codes, len(np.unique(x, axis=0)))
    return KMeans(codes, random_state=seed).fit_predict(x)


def build_head_codes_circuit(
    lm: LanguageModel,
    positives: Sequence[TokenizedText],
    negatives: Sequence[TokenizedText],
    *,
    codes: int = CODEBOOK_SIZE,
    seed: int = 0,
) -> Circuit:
    """All heads by score, with edges between heads whose own codes come together."""
    found = fit_head_codes(lm, positives, negatives, codes=codes, seed=seed)
    shape = found.share.shape
    order = np.argsort(-found.score, axis=None, kind="stable")
    places = [tuple(int(i) for i in np.unravel_index(at, shape)) for at in order]
    nodes = [
        CircuitNode(
            head_id(layer, head, None),
            "head",
            layer,
            None,
            "",
            head,
            float(found.score[layer, head]),
            float(found.share[layer, head]),
        )
        for layer, head in places
    ]
    return Circuit(
        method=METHOD,
        model=lm.name,
        prompts=tuple(build_circuit_prompt(lm.tokenizer, text) for text in positives),
        target=f"what {len(positives)} positive examples have and {len(negatives)} negative lack",
        nodes=tuple(nodes),
        edges=_connect_heads(found),
        effect_means=SCORE_MEANING,
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
            *_describe_unrankable_heads(found),
        ),
    )


def _describe_unrankable_heads(found: HeadCodes) -> list[str]:
    """Said where codes cannot rank: most heads tell all positives from all negatives."""
    n = int((found.share >= ALMOST_ALWAYS).sum())
    if n <= found.share.size / 2:
        return []
    return [
        f"{n} of {found.share.size} heads have a code of their own on at least "
        f"{ALMOST_ALWAYS:.0%} of the "
        "positives: the two kinds differ in more than the behaviour, and the ranking rests on the "
        "size of outputs. Make the negatives more alike the positives."
    ]


def _connect_heads(found: HeadCodes) -> tuple[CircuitEdge, ...]:
    """From heads to heads of later layers, among those that score above even."""
    high = np.argwhere(found.score > 1 / found.score.size).tolist()
    edges = []
    for layer, head in high:
        for later, other in high:
            both = float((found.own[:, layer, head] & found.own[:, later, other]).mean())
            if later > layer and both >= EDGE_THRESHOLD:
                ends = head_id(layer, head, None), head_id(later, other, None)
                edges.append(CircuitEdge(*ends, both))
    return tuple(sorted(edges, key=lambda edge: -edge.weight))
