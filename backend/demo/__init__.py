"""The embedded demo: a small model, its dictionaries, and the texts they were trained on.

Importing this loads no torch. `python -m backend.demo.train` rebuilds the weights.
"""

from pathlib import Path

from backend.demo.demo_texts import DemoDocument, TaskPrompt, demo_documents, task_prompts
from backend.demo.dictionary_plans import DICTIONARY_PLANS, MODEL_NAME

WEIGHTS = Path(__file__).parent / "weights"
MODEL = WEIGHTS / MODEL_NAME
"""A Hugging Face folder: model, tokenizer, configuration."""
DICTIONARIES = [
    WEIGHTS / plan.name for plans in zip(*DICTIONARY_PLANS.values(), strict=True) for plan in plans
]
"""Folders that sae-lens loads: SAEs of the residual stream and of heads, MLP transcoders."""

__all__ = ["DICTIONARIES", "MODEL", "DemoDocument", "TaskPrompt", "demo_documents", "task_prompts"]
