"""The coder behind most dictionaries: one affine map, then a rule that says which entries survive.

ReLU, JumpReLU, gated, TopK, AbsTopK, GroupMax, and transcoders of each kind. A gated SAE with
shared weights is a JumpReLU one: see `gated`.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from backend.dictionaries.activation_rules import ActivationRule, ThresholdRule
from backend.dictionaries.base import Precision, Triples
from backend.dictionaries.sparse_encoder import encode_tiles


@dataclass(frozen=True, eq=False)
class AffineCoder:
    """f = rule((z - b_in) @ W_enc + b_enc); z' = f @ W_dec + b_dec."""

    W_enc: Float[Tensor, "d_in d_sae"]
    b_enc: Float[Tensor, "d_sae"]
    W_dec: Float[Tensor, "d_sae d_out"]
    b_dec: Float[Tensor, "d_out"]
    rule: ActivationRule
    b_in: Float[Tensor, "d_in"] | None = None
    """Taken off first and not folded into b_enc: z and b_in can both be large and nearly equal."""

    needs_sequence = False

    @property
    def signed(self) -> bool:
        return self.rule.signed

    @cached_property
    def W_enc_bf16(self) -> Tensor:
        return self.W_enc.to(torch.bfloat16)

    def centre(self, z: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_in"]:
        return z if self.b_in is None else z - self.b_in

    def encode(self, z: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_sae"]:
        return self.rule.keep(self.centre(z) @ self.W_enc + self.b_enc)

    def decode(
        self, f: Float[Tensor, "... d_sae"], z: Float[Tensor, "... d_in"]
    ) -> Float[Tensor, "... d_out"]:
        return f @ self.W_dec + self.b_dec

    def encode_sparse(self, z: Float[Tensor, "... d_in"], precision: Precision) -> Triples:
        rough = precision == "bf16"
        W_enc = self.W_enc_bf16 if rough else self.W_enc
        x = self.centre(z).flatten(0, -2)
        return encode_tiles(x, W_enc, self.b_enc, self.rule)


class GateParameters(NamedTuple):
    """A gated SAE's own parameters, each [d_sae]."""

    r_mag: Tensor
    b_gate: Tensor
    b_mag: Tensor


def build_gated_coder(
    W_enc: Float[Tensor, "d_in d_sae"],
    gates: GateParameters,
    W_dec: Float[Tensor, "d_sae d_out"],
    b_dec: Float[Tensor, "d_out"],
    b_in: Float[Tensor, "d_in"] | None,
) -> AffineCoder:
    """A gated SAE as one affine map and a threshold.

    With p = x @ W_enc, magnitude m = e^r p + b_mag and gate p + b_gate > 0. As e^r > 0, the gate is
    open just where m > b_mag - e^r b_gate. Rajamanoharan et al. 2024, arXiv:2404.16014.
    """
    gain = gates.r_mag.exp()
    threshold = (gates.b_mag - gain * gates.b_gate).clamp(min=0)
    return AffineCoder(W_enc * gain, gates.b_mag, W_dec, b_dec, ThresholdRule(threshold), b_in)
