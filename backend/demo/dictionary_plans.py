"""Dictionary plans of the demo: the hook points and sizes of its twelve dictionaries, defined
once."""

from dataclasses import dataclass

N_LAYERS = 4
CONTEXT_TOKENS = 256
"""Maximum number of tokens per sequence of the demo's model, BOS included."""
MODEL_NAME = "saefari-demo"


@dataclass(frozen=True)
class DemoDictionaryPlan:
    """Plan of one of the demo's dictionaries: name, hook points, sparsity and size. `k` is the
    number of active features per token: exact in an SAE, an average in a transcoder."""

    name: str
    hook: str
    hook_out: str
    k: int
    d_sae: int = 768

    @property
    def is_transcoder(self) -> bool:
        """Whether the dictionary is a transcoder, which reads one hook point and writes another."""
        return self.hook != self.hook_out


def _layer_plans(layer: int) -> list[DemoDictionaryPlan]:
    """Return the plans of a layer's three dictionaries: residual stream SAE, attention SAE, MLP
    transcoder."""
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
