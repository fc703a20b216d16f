"""The embedded demo: a small model, its dictionaries, and the texts they were trained on.

Importing this loads no torch. `python -m backend.demo.train` rebuilds the weights.
"""

from pathlib import Path

from backend.demo.corpus import Document, Prompt, demo_documents, task_prompts

WEIGHTS = Path(__file__).parent / "weights"
MODEL = WEIGHTS / "model"
"""A Hugging Face folder: model, tokenizer, configuration."""
LAYERS = 4
DICTIONARIES = [WEIGHTS / f"{kind}-{i}" for kind in ("resid", "attn", "mlp") for i in range(LAYERS)]
"""Folders that sae-lens loads: SAEs on the residual stream and on heads, transcoders of the MLPs."""

__all__ = ["DICTIONARIES", "MODEL", "Document", "Prompt", "demo_documents", "task_prompts"]
