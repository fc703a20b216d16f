"""TransformerLens hook points for Hugging Face module paths.

sae-lens (with AutoModelForCausalLM), sparsify and dictionary_learning name the module whose output
an SAE was trained on, such as `model.layers.8` or `gpt_neox.layers.3.mlp`. An SAE reads and writes
that output; a transcoder reads the module's input and writes its output.
"""

import re
from typing import NamedTuple


class ModulePoints(NamedTuple):
    """TransformerLens' hook points of a Hugging Face module's input and output."""

    reads: str | None
    """Hook point of the module's input; None where no single hook point equals that input."""
    writes: str
    """Hook point of the module's output."""


WRAPPERS = (
    "_orig_mod",
    "module",
    "base_model",
    "model",
    "language_model",
    "text_model",
    "transformer",
    "gpt_neox",
    "decoder",
    "backbone",
)
"""Names of modules that only contain the layers of a language model, as in
`model.language_model.layers.3`."""

WRAPPED = rf"(?:(?:{'|'.join(WRAPPERS)})\.)*"
BLOCK = re.compile(rf"{WRAPPED}(?:layers|h|blocks|block)[._](\d+)(?:\.([a-z_0-9.]+))?")
OUTSIDE = re.compile(rf"{WRAPPED}([a-z_]+)")

PARTS = (
    (r"", "hook_resid_pre", "hook_resid_post"),
    (r"mlp|feed_forward|ffn|block_sparse_moe", "mlp.hook_in", "mlp.hook_out"),
    (r"attn|self_attn|attention|self_attention", "attn.hook_in", "attn.hook_out"),
    (r"mlp\.(down_proj|c_proj|dense_4h_to_h)", "mlp.hook_post", "mlp.hook_out"),
    (r"(attn|self_attn|attention)\.(o_proj|c_proj|out_proj|dense)", "attn.hook_z", "attn.hook_out"),
    (r"input_layernorm|ln_1", "hook_resid_pre", "ln1.hook_out"),
    (r"ln_2", "hook_resid_mid", "ln2.hook_out"),
)
"""Input and output hook points, under `blocks.N.`, of each module of a transformer block.

`mlp.hook_in` is the input of the MLP itself, after the norm's gain: it differs from
`ln2.hook_normalized`. `post_attention_layernorm` is missing because it precedes the MLP in Llama
and follows attention in Gemma.
"""

ENDS = {
    "embed_tokens": ModulePoints(None, "embed.hook_out"),
    "wte": ModulePoints(None, "embed.hook_out"),
    "embed_in": ModulePoints(None, "embed.hook_out"),
    "norm": ModulePoints("ln_final.hook_in", "ln_final.hook_out"),
    "ln_f": ModulePoints("ln_final.hook_in", "ln_final.hook_out"),
    "final_layer_norm": ModulePoints("ln_final.hook_in", "ln_final.hook_out"),
}
"""Input and output hook points of modules outside the transformer blocks."""

EXAMPLES = "model.layers.3, h.3, layers.3.mlp or gpt_neox.layers.3.attention"


def find_module_points(path: str) -> ModulePoints | None:
    """Return the hook points of a Hugging Face module's input and output; None for other names."""
    if block := BLOCK.fullmatch(path):
        number, part = int(block[1]), block[2] or ""
        for pattern, reads, writes in PARTS:
            if re.fullmatch(pattern, part):
                return ModulePoints(f"blocks.{number}.{reads}", f"blocks.{number}.{writes}")
        return None
    outside = OUTSIDE.fullmatch(path)
    return ENDS.get(outside[1]) if outside else None


def translate_hook(name: str, *, reads_input: bool = False) -> str:
    """Return the TransformerLens hook point of a Hugging Face module path; a name that is not a
    module path is returned unchanged.

    `reads_input` selects the module's input, which transcoders read, instead of its output.
    """
    points = find_module_points(name)
    if points is None:
        return name
    return points.reads or name if reads_input else points.writes
