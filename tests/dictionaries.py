"""Tiny sae-lens dictionaries of every architecture, with random weights, saved as folders."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from backend.dictionaries import load
from backend.dictionaries.base import Dictionary
from backend.model.device import Placement

CPU = Placement(torch.device("cpu"), torch.float32, "a test")
EXACT = Placement(torch.device("cpu"), torch.float64, "a test")

D_IN, D_SAE, D_OUT = 12, 40, 9
HOOK, HOOK_OUT = "blocks.1.hook_resid_post", "blocks.1.hook_mlp_out"

SAES = ["standard", "gated", "topk", "abstopk", "jumprelu", "matching_pursuit"]
TRANSCODERS = [
    "transcoder",
    "skip_transcoder",
    "jumprelu_transcoder",
    "jumprelu_skip_transcoder",
]
PER_TOKEN = ["layer_norm", "constant_norm_rescale"]

EXTRA = {
    "topk": {"k": 5},
    "abstopk": {"k": 5},
    "matching_pursuit": {"max_iterations": 6},
    "temporal": {"n_heads": 1, "kval_topk": 5},
}


def config(architecture: str, **fields) -> dict:
    """A cfg.json; keys of the metadata go into it, keys that are None are left out."""
    metadata = {"hook_name": HOOK, "model_name": "tiny", "context_size": 16}
    if architecture.endswith("transcoder"):
        metadata["hook_name_out"] = HOOK_OUT
        fields = {"d_out": D_OUT, "apply_b_dec_to_input": False, **fields}
    metadata |= fields.pop("metadata", {})
    cfg = {
        "architecture": architecture,
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **EXTRA.get(architecture, {}),
        **fields,
        "metadata": {"sae_lens_version": "6.54.12", **metadata},
    }
    return {k: v for k, v in cfg.items() if v is not None}


def randomise(sae, seed: int = 0) -> None:
    """Weights that make mistakes visible: no bias is zero, no decoder row has norm 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(sae.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = noise * (0.3 if parameter.ndim == 1 else 0.5)
        if name == "threshold":
            parameter.data = noise.abs() * 0.5 - 0.1  # some below zero, where ReLU decides


def sae_of(architecture: str, seed: int = 0, **fields):
    """A sae-lens object in memory."""
    from sae_lens import SAE

    if architecture == "temporal":
        fields = {"d_in": 16, "d_sae": 64, **fields}
    sae = SAE.from_dict(config(architecture, **fields))
    randomise(sae, seed)
    if architecture == "matching_pursuit":  # defined for unit atoms
        sae.W_dec.data /= sae.W_dec.norm(dim=1, keepdim=True)
    return sae


def saved(folder: Path, architecture: str, seed: int = 0, **fields) -> Path:
    """Such a dictionary in sae-lens' format on disk."""
    sae_of(architecture, seed, **fields).save_model(folder)
    return folder


def loaded(folder: Path, architecture: str, seed: int = 0, **fields) -> Dictionary:
    """A dictionary as the application loads it."""
    return load(str(saved(folder, architecture, seed, **fields)), placement=CPU)


def tokens(n: int = 50, d: int = D_IN, seed: int = 1) -> torch.Tensor:
    """Activations [n d], not centred, of varying norm."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator)
    return x * torch.linspace(0.3, 3, n)[:, None] + 0.4


def save_scaler(folder: Path, factor: float | None) -> None:
    """The file in which sae-lens' training keeps a scale that is not folded in."""
    scaler = {"scaling_factor": factor, "has_whitening": factor is None}
    (folder / "activation_scaler.json").write_text(json.dumps(scaler))


def save_whitening(folder: Path, d: int = D_IN) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    matrix = torch.randn(d, d, generator=generator, dtype=torch.float64) + 2 * torch.eye(d)
    whitening = {
        "mean": torch.randn(d, generator=generator, dtype=torch.float64),
        "matrix": matrix,
        "inverse_matrix": torch.linalg.inv(matrix).contiguous(),
    }
    save_file(whitening, folder / "activation_whitening.safetensors")
    return whitening


def at_hooks(one: Dictionary, *, reads: str = "", writes: str = "") -> Dictionary:
    """The same dictionary, read or written at another hook point."""
    return replace(
        one,
        reads=(replace(one.reads[0], hook=reads or one.hook_name),),
        writes=(replace(one.writes[0], hook=writes or one.hook_out),),
    )
