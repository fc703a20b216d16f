"""SAE trainer of the demo: trains one sparse autoencoder with sae-lens' own trainer, on activations
in memory."""

from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from backend.demo.activations import shuffled_row_batches
from backend.demo.dictionary_plans import CONTEXT_TOKENS, MODEL_NAME, DemoDictionaryPlan

BATCH_ROWS = 1024
LEARNING_RATE = 1.5e-3


def dictionary_metadata(plan: DemoDictionaryPlan) -> dict[str, object]:
    """Return the metadata that a demo dictionary is saved with, in sae-lens' terms."""
    return {
        "model_name": MODEL_NAME,
        "hook_name": plan.hook,
        "hook_name_out": plan.hook_out,
        "context_size": CONTEXT_TOKENS,
        "prepend_bos": True,
        "exclude_special_tokens": True,
        "dataset_path": "demo",
        "model_from_pretrained_kwargs": {},
    }


def train_sae(
    plan: DemoDictionaryPlan, x: Float[Tensor, "token width"], folder: Path, tokens: int
) -> None:
    """Train a TopK SAE of the demo on `tokens` rows of activations drawn at random from `x`, and
    save it in sae-lens' format."""
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(0)
    config = TopKTrainingSAEConfig(
        k=plan.k,
        d_in=x.shape[1],
        d_sae=plan.d_sae,
        normalize_activations="expected_average_only_in",  # folded into the weights at the end
        reshape_activations="hook_z" if plan.hook.endswith("hook_z") else "none",
        metadata=SAEMetadata(**dictionary_metadata(plan)),
    )
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=tokens,
            train_batch_size_samples=BATCH_ROWS,
            lr=LEARNING_RATE,
            lr_end=LEARNING_RATE / 10,
            lr_warm_up_steps=50,
            lr_decay_steps=tokens // BATCH_ROWS // 3,
            dead_feature_window=100,
        ),
        sae=TopKTrainingSAE(config),
        data_provider=_shuffled_rows(x),
    )
    # What its `fit` does, without the progress bars.
    scale = x.shape[1] ** 0.5 / float(x.norm(dim=1).mean())
    trainer.activation_scaler.scaling_factor = scale
    while trainer.n_training_samples < tokens:
        trainer.step(next(trainer.data_provider))
        trainer.n_training_steps += 1
    trainer.sae.fold_activation_norm_scaling_factor(scale)
    trainer.set_final_sae_metadata()
    trainer.sae.save_inference_model(folder)


def _shuffled_rows(x: Float[Tensor, "token width"]) -> Iterator[Float[Tensor, "row width"]]:
    """Yield training batches of activation rows for a demo SAE in random order, without end."""
    for rows in shuffled_row_batches(len(x), BATCH_ROWS, seed=0):
        yield x[rows]
