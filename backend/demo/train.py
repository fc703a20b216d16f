"""Command `python -m backend.demo.train`: rebuilds the demo's weights in stages: tokenizer, model,
dictionaries, figures.

A stage whose output exists is skipped, so an interrupted run resumes where it stopped; remove a
folder under `weights/` to train it again.
"""

import logging
from pathlib import Path

import torch

from backend.demo import MODEL, WEIGHTS
from backend.demo.dictionary_plans import DICTIONARY_PLANS, DemoDictionaryPlan

log = logging.getLogger(__name__)

MODEL_TOKENS = 12_000_000
ACTIVATION_TOKENS = 500_000
DICTIONARY_TOKENS = 900_000
"""Training tokens of each demo dictionary: every collected activation is seen about twice."""


def main() -> None:
    """Run all stages of the demo's training whose output does not exist yet."""
    torch.set_num_threads(1)  # for matrices this small a second thread costs more than it saves
    if not (MODEL / "tokenizer.json").is_file():
        from backend.demo.tokenizer_trainer import train_tokenizer

        log.info("training the tokenizer")
        train_tokenizer(MODEL)
    if not (MODEL / "model.safetensors").is_file():
        from backend.demo.model_trainer import train_model

        log.info("training the model")
        train_model(MODEL, MODEL_TOKENS)
    for plans in DICTIONARY_PLANS.values():
        missing = [plan for plan in plans if not (WEIGHTS / plan.name / "cfg.json").is_file()]
        if missing:
            train_dictionaries(missing)
    if not (WEIGHTS / "figures.json").is_file():
        from backend.demo.demo_report import write_report

        write_report(Path(__file__).parents[2] / "docs" / "demo.md")


def train_dictionaries(plans: list[DemoDictionaryPlan]) -> None:
    """Train the demo dictionaries of one layer on activations that a single pass collects for all
    of them."""
    from backend.demo.activations import (
        DICTIONARY_SEED,
        collect_activations,
        demo_token_batches,
        load_demo_model,
    )
    from backend.demo.sae_trainer import train_sae
    from backend.demo.transcoder_trainer import train_transcoder

    hooks = sorted({hook for plan in plans for hook in (plan.hook, plan.hook_out)})
    log.info("collecting activations at %s", ", ".join(hooks))
    acts = collect_activations(
        load_demo_model(), demo_token_batches(DICTIONARY_SEED, ACTIVATION_TOKENS), hooks
    )
    for plan in plans:
        log.info("training %s", plan.name)
        folder = WEIGHTS / plan.name
        if plan.is_transcoder:
            x, y = acts[plan.hook], acts[plan.hook_out]
            train_transcoder(plan, x, y, folder, DICTIONARY_TOKENS)
        else:
            train_sae(plan, acts[plan.hook], folder, DICTIONARY_TOKENS)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main()
