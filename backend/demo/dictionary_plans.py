"""Which dictionaries the demo has: their hook points and sizes, stated once."""

from dataclasses import dataclass

N_LAYERS = 4
CONTEXT_TOKENS = 256
"""Tokens per sequence at most, BOS included."""
MODEL_NAME = "saefari-demo"


@dataclass(frozen=True)
class DemoDictionaryPlan:
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


def _layer_plans(layer: int) -> list[DemoDictionaryPlan]:
    block = f"blocks.{layer}"
    resid, z = f"{block}.hook_resid_post", f"{block}.attn.hook_z"
    return [
        DemoDictionaryPlan(f"resid-{layer}", resid, resid, k=24),
        DemoDictionaryPlan(f"attn-{layer}", z, z, k=16),
        DemoDictionaryPlan(
            f"mlp-{layer}", f"{block}.ln2.hook_normalized", f"{block}.hook_mlp_out", k=24
        ),
    ]


DICTIONARY_PLANS = {layer: _layer_plans(layer) for layer in range(N_LAYERS)}
