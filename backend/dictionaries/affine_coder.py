"""The affine coder that most dictionaries share: one encoder matrix, an activation rule, one
decoder matrix.

It covers ReLU, JumpReLU, gated, TopK, AbsTopK and GroupMax SAEs and their transcoders. A gated SAE
with shared encoder weights is rewritten as a JumpReLU SAE by `build_gated_coder`.
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
    """Affine encoder and linear decoder of an SAE or transcoder: f = rule((z - b_in) @ W_enc +
    b_enc), z' = f @ W_dec + b_dec."""

    W_enc: Float[Tensor, "d_in d_sae"]
    b_enc: Float[Tensor, "d_sae"]
    W_dec: Float[Tensor, "d_sae d_out"]
    b_dec: Float[Tensor, "d_out"]
    rule: ActivationRule
    b_in: Float[Tensor, "d_in"] | None = None
    """Bias subtracted from the input first. It is not folded into b_enc, because z and b_in can
    both be large and nearly equal."""

    needs_sequence = False

    @property
    def signed(self) -> bool:
        """Whether the affine coder's activation rule can give negative activations."""
        return self.rule.signed

    @cached_property
    def W_enc_bf16(self) -> Tensor:
        """Encoder weights of the affine coder in bfloat16, for approximate encoding."""
        return self.W_enc.to(torch.bfloat16)

    def centre(self, z: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_in"]:
        """Subtract the affine coder's input bias b_in from normalised activations, where it has
        one."""
        return z if self.b_in is None else z - self.b_in

    def encode(self, z: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_sae"]:
        """Return the dense activations [..., d_sae] of the affine encoder."""
        return self.rule.keep(self.centre(z) @ self.W_enc + self.b_enc)

    def decode(
        self, f: Float[Tensor, "... d_sae"], z: Float[Tensor, "... d_in"]
    ) -> Float[Tensor, "... d_out"]:
        """Return the affine coder's reconstruction f @ W_dec + b_dec [..., d_out]; z is
        not used."""
        return f @ self.W_dec + self.b_dec

    def encode_sparse(self, z: Float[Tensor, "... d_in"], precision: Precision) -> Triples:
        """Return the non-zero activations of the affine encoder, computed tile by tile."""
        rough = precision == "bf16"
        W_enc = self.W_enc_bf16 if rough else self.W_enc
        x = self.centre(z).flatten(0, -2)
        return encode_tiles(x, W_enc, self.b_enc, self.rule)


class GateParameters(NamedTuple):
    """The gate parameters of a gated SAE, each of shape [d_sae]."""

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
    """Return a gated SAE as an affine coder with one JumpReLU threshold per feature.

    With p = x @ W_enc, the magnitude is m = e^r p + b_mag and the gate is p + b_gate > 0. As e^r >
    0, the gate is open exactly where m > b_mag - e^r b_gate. Rajamanoharan et al. 2024,
    arXiv:2404.16014.
    """
    gain = gates.r_mag.exp()  # e^r > 0, so dividing the gate by it keeps its sign
    threshold = (gates.b_mag - gain * gates.b_gate).clamp(min=0)
    return AffineCoder(W_enc * gain, gates.b_mag, W_dec, b_dec, ThresholdRule(threshold), b_in)
