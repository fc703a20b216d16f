"""Head codes: attention heads of a task, found by discrete codes that their outputs have on
examples and never on counterexamples.

After O'Neill and Bui 2024 (arXiv:2405.12522): a small discrete autoencoder is trained on the
outputs of all heads at the last token of each example; a head's code on an example is the one
feature that represents its output; heads whose codes on positive examples never occur on negative
ones belong to the task. Here the autoencoder is a codebook fitted by squared error (k-means), which
is seeded and takes milliseconds. An output is what the head adds to the residual stream, divided by
the norm of the stream at that layer, because later norms rescale it; otherwise early layers, whose
stream is short, would count less. Each head's mean over the examples is subtracted first, since it
does not distinguish examples. Heads with small outputs share the codes near 0, and none of these is
theirs alone.
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
"""Minimum number of positive and of negative examples for head codes; with fewer, a code that only
positive examples have is no evidence."""
ALMOST_ALWAYS = 0.9
EDGE_THRESHOLD = 0.5
"""Share of positive examples on which two heads must both have codes of their own to be joined by
an edge."""
SCORE_MEANING = (
    "Score: the share of positive examples on which the head's code occurs on no "
    "negative example, with ties broken by the distance of its output from its "
    "mean; the scores of all heads sum to one."
)


@dataclass(frozen=True, eq=False)
class HeadCodes:
    """Discrete codes of all attention heads on positive and negative examples (a code is the
    codebook entry nearest to a head's output), from which heads are scored for a task."""

    codes: Int[np.ndarray, "example layer head"]
    """Code of each attention head on each example, positive examples first."""
    own_code: Bool[np.ndarray, "positive layer head"]
    """Whether an attention head's code on a positive example occurs on no negative example."""
    strength: Float[np.ndarray, "layer head"]
    """Mean distance of the head's output on positive examples from its mean over all examples,
    divided by the norm of the residual stream."""

    @property
    def share(self) -> Float[np.ndarray, "layer head"]:
        """Return for each head the share of positive examples on which its code is its own, that
        is, occurs on no negative example."""
        return self.own_code.mean(0)

    @property
    def score(self) -> Float[np.ndarray, "layer head"]:
        """Return the score of each head: by the share of positive examples with a code of their
        own, ties by strength; scores sum to one."""
        strongest = max(float(self.strength.max()), 1e-12)
        raw = self.share + self.strength / strongest / (2 * len(self.own_code))
        return raw / raw.sum()


def fit_head_codes(
    lm: LanguageModel,
    positives: Sequence[TokenizedText],
    negatives: Sequence[TokenizedText],
    *,
    codes: int = CODEBOOK_SIZE,
    seed: int = 0,
) -> HeadCodes:
    """Read the outputs of all attention heads in one forward pass and fit their discrete codes.
    Raises InputError for too few examples."""
    for kind, given in (("positive", positives), ("negative", negatives)):
        if len(given) < FEWEST_EXAMPLES:
            raise InputError(
                f"{len(given)} {kind} examples are too few: give at least {FEWEST_EXAMPLES}, "
                "preferably 5 to 10 of each kind."
            )
    x = read_head_outputs(lm, [*positives, *negatives])
    x = x - x.mean(0)
    found = assign_nearest_codes(x.flatten(0, 2).numpy(), codes, seed).reshape(x.shape[:3])
    n = len(positives)
    # [positive, negative, layer, head]: whether both examples have the same code
    same = found[:n, None] == found[None, n:]
    return HeadCodes(found, ~same.any(1), x[:n].norm(dim=-1).mean(0).numpy())


@torch.no_grad()
def read_head_outputs(
    lm: LanguageModel, texts: Sequence[TokenizedText]
) -> Float[Tensor, "example layer head width"]:
    """Read what each attention head writes at each text's last token, as a fraction of the mean
    norm of the residual stream.

    Outputs are float32 on the CPU. If a norm stands between attention and the stream, the output is
    the head's z divided by the root mean square of its layer.
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
    """Return the outputs of a layer's heads at the last token, divided by the mean norm of the
    residual stream."""
    by_head = z.unflatten(-1, (lm.n_heads, -1))
    W_O = map_to_residual_stream(lm, torch.eye(z.shape[-1]), hook)
    if W_O is None:
        return by_head / by_head.pow(2).mean().sqrt()
    written = torch.einsum("nhd,hdm->nhm", by_head, W_O.unflatten(0, (lm.n_heads, -1)))
    return written / stream.norm(dim=-1).mean()


def assign_nearest_codes(
    x: Float[np.ndarray, "n d"], codes: int, seed: int
) -> Int[np.ndarray, "n"]:
    """Return each head output's entry in a codebook of at most `codes` entries, fitted to the
    outputs by squared error (k-means)."""
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
    """Build the circuit of all attention heads in order of their head-code score, with edges
    between heads whose own codes occur together."""
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
        target=f"what {len(positives)} positive examples have and {len(negatives)} negative "
        "examples lack",
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
            "Codes show which heads have different outputs on positive examples, not that "
            "these heads matter: check the first ones by ablation.",
            *_describe_unrankable_heads(found),
        ),
    )


def _describe_unrankable_heads(found: HeadCodes) -> list[str]:
    """Return a note if head codes cannot rank the heads because most heads distinguish all positive
    examples from all negative ones."""
    n = int((found.share >= ALMOST_ALWAYS).sum())
    if n <= found.share.size / 2:
        return []
    return [
        f"{n} of {found.share.size} heads have a code of their own on at least "
        f"{ALMOST_ALWAYS:.0%} of the positive examples: the two kinds of examples "
        "differ in more than the behaviour, so the ranking depends on the size of the "
        "outputs. Use negative examples that are more similar to the positive ones."
    ]


def _connect_heads(found: HeadCodes) -> tuple[CircuitEdge, ...]:
    """Return the edges of a head-codes circuit, from attention heads to heads of later layers,
    among the heads whose score exceeds 1 ÷ number of heads. An edge's weight is the share of
    positive examples on which both heads have codes of their own."""
    high = np.argwhere(found.score > 1 / found.score.size).tolist()
    edges = []
    for layer, head in high:
        for later, other in high:
            both = float((found.own_code[:, layer, head] & found.own_code[:, later, other]).mean())
            if later > layer and both >= EDGE_THRESHOLD:
                ends = head_id(layer, head, None), head_id(later, other, None)
                edges.append(CircuitEdge(*ends, both))
    return tuple(sorted(edges, key=lambda edge: -edge.weight))
