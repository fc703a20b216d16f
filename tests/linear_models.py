"""A model without any bend, small enough to work every effect and edge out by hand.

r0 = E[token]                  blocks.0.hook_resid_post
z  = r0 of the token before    blocks.1.attn.hook_z
m  = r0 @ M                    blocks.1.hook_mlp_out
r1 = r0 + z @ V + m            blocks.1.hook_resid_post
logits = r1 @ U
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from backend.ablation.padded_prompts import PaddedPrompts
from backend.ablation.prompt_targets import TargetedPrompts
from backend.attribution.target_metric import TargetMetric
from backend.circuits.circuit_prompts import CircuitPromptSet
from backend.circuits.records import CircuitPrompt
from backend.dictionaries.activation_rules import LinearRule, ThresholdRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary, single_sites
from backend.model.device import Placement
from backend.model.language_model import LanguageModel
from backend.model.weight_processing import NO_PROCESSING, WeightProcessing

D, VOCAB = 6, 9
R0, Z, MLP, R1 = (
    "blocks.0.hook_resid_post",
    "blocks.1.attn.hook_z",
    "blocks.1.hook_mlp_out",
    "blocks.1.hook_resid_post",
)


class LinearLm(LanguageModel):
    """What the circuits ask of an `Lm`; the rest of it is not there."""

    name, n_layers, d_vocab, n_nameable = "linear", 2, VOCAB, VOCAB
    placement = Placement(torch.device("cpu"), torch.float32, "a test")

    def __init__(self, seed: int = 0) -> None:
        g = torch.Generator().manual_seed(seed)
        self.E, self.U = torch.randn(VOCAB, D, generator=g), torch.randn(D, VOCAB, generator=g)
        self.M, self.V = (torch.randn(D, D, generator=g) * 0.5 for _ in range(2))

    def check_hook(self, hook: str) -> None:
        assert hook in (R0, Z, MLP, R1)

    def canonical(self, hook: str) -> str:
        return hook

    def process(self, hook: str, h: Tensor, processing: object) -> Tensor:
        return h

    def logits(self, tokens: Tensor, replace: Mapping | None = None) -> Tensor:
        return self._run(tokens, replace or {})[0]

    def activations(
        self, tokens: Tensor, hooks: Sequence[str], processing: WeightProcessing = NO_PROCESSING
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            got = self._run(tokens, {})[1]
        return {hook: got[hook] for hook in hooks}

    def _run(self, tokens: Tensor, replace: Mapping) -> tuple[Tensor, dict[str, Tensor]]:
        got: dict[str, Tensor] = {}

        def at(hook: str, h: Tensor) -> Tensor:
            got[hook] = replace[hook](h) if hook in replace else h
            return got[hook]

        r0 = at(R0, self.E[tokens])
        z = at(Z, torch.cat([torch.zeros_like(r0[:, :1]), r0[:, :-1]], 1))
        m = at(MLP, r0 @ self.M)
        r1 = at(R1, r0 + z @ self.V + m)
        return r1 @ self.U, got


def directions(
    name: str, hook: str, hook_out: str = "", n: int = D - 1, gated: bool = False, seed: int = 0
) -> Dictionary:
    """`n` orthonormal directions, read and written; what lies across them is the error term. A
    transcoder (`hook_out`) reads one set of directions and writes another."""
    g = torch.Generator().manual_seed(seed)
    write = torch.linalg.qr(torch.randn(D, D, generator=g))[0][:n]
    read = torch.linalg.qr(torch.randn(D, D, generator=g))[0][:n] if hook_out else write
    coder = AffineCoder(
        W_enc=read.T.contiguous(),
        b_enc=torch.zeros(n),
        W_dec=write.contiguous(),
        b_dec=torch.zeros(D),
        rule=ThresholdRule() if gated else LinearRule(),
    )
    return Dictionary(
        name, *single_sites(hook, hook_out or hook, coder), "directions", name, "0" * 64, coder
    )


def prompts(rows: int = 3, pos: int = 4, seed: int = 0, pairs: bool = False) -> CircuitPromptSet:
    """Random tokens by position; the first one does not count. Target: token 1 against token 2."""
    g = torch.Generator().manual_seed(seed)
    tokens, others = (torch.randint(3, VOCAB, (rows, pos), generator=g) for _ in range(2))
    real = torch.ones_like(tokens, dtype=torch.bool)
    counted = real.clone()
    counted[:, 0] = False
    last = torch.full((rows,), pos - 1)
    laid = TargetedPrompts(
        PaddedPrompts(tokens, real, counted, last),
        TargetMetric([[1]] * rows, [[2]] * rows, last),
        PaddedPrompts(others, real, counted, last) if pairs else None,
    )
    slot = torch.arange(pos).expand(rows, pos).masked_fill(~counted, -1)
    names = tuple(f"p{i}" for i in range(pos))
    return CircuitPromptSet(laid, slot, names, tuple(CircuitPrompt("") for _ in range(rows)))
