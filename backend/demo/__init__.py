"""The embedded demo: a small language model, its dictionaries, and the texts that they were trained
on. Importing this package loads no torch. `python -m backend.demo.train` rebuilds the weights."""

from pathlib import Path

from backend.demo.demo_texts import DemoDocument, TaskPrompt, demo_documents, task_prompts
from backend.demo.dictionary_plans import DICTIONARY_PLANS, MODEL_NAME

WEIGHTS = Path(__file__).parent / "weights"
MODEL = WEIGHTS / MODEL_NAME
"""Hugging Face folder of the demo's model, tokenizer and configuration."""
DICTIONARIES = [
    WEIGHTS / plan.name for plans in zip(*DICTIONARY_PLANS.values(), strict=True) for plan in plans
]
"""Folders of the demo's dictionaries in sae-lens' format: SAEs of the residual stream and of
attention heads, and MLP transcoders."""

__all__ = ["DICTIONARIES", "MODEL", "DemoDocument", "TaskPrompt", "demo_documents", "task_prompts"]
