"""Which dictionaries the demo has: their hook points and sizes, stated once."""

from dataclasses import dataclass

LAYERS = 4
CONTEXT = 256
"""Tokens per sequence at most, BOS included."""
MODEL_NAME = "saefari-demo"


@dataclass(frozen=True)
class Plan:
    """One dictionary to train.

    `k` is how many features are active per token: exactly in an SAE, on average in a transcoder.
    """

    name: str
    hook: str
    hook_out: str
    k: int
    d_sae: int = 768

    @property
    def is_transcoder(self) -> bool:
        return self.hook != self.hook_out


def _plans(layer: int) -> list[Plan]:
    block = f"blocks.{layer}"
    resid, z = f"{block}.hook_resid_post", f"{block}.attn.hook_z"
    return [
        Plan(f"resid-{layer}", resid, resid, k=24),
        Plan(f"attn-{layer}", z, z, k=16),
        Plan(f"mlp-{layer}", f"{block}.ln2.hook_normalized", f"{block}.hook_mlp_out", k=24),
    ]


PLANS = {layer: _plans(layer) for layer in range(LAYERS)}
