"""Evaluation of the demo: task accuracy of its model, and reconstruction quality and dead features
of its dictionaries."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from backend.demo import MODEL, WEIGHTS, demo_documents
from backend.demo.activations import (
    DemoBatch,
    collect_activations,
    counted_token_mask,
    demo_token_batches,
)
from backend.demo.demo_texts import HARVEST_SEED, TaskPrompt
from backend.demo.dictionary_plans import DemoDictionaryPlan
from backend.demo.model_trainer import padded_batches
from backend.model.language_model import LanguageModel

DEAD_TOKENS = 300_000
"""Tokens of the demo's texts on which a feature must not activate to count as dead."""
SPLICE_DOCUMENTS = 200


@dataclass(frozen=True)
class TaskAccuracy:
    """Accuracy of the demo's model on one task, as shares of prompts."""

    pair: float
    """Share of prompts where the answer is more probable than the tempting wrong one; chance is
    0.5."""
    top: float
    """Share of prompts where the answer is the most probable of all tokens."""
    n: int
    """Number of prompts evaluated."""


@torch.inference_mode()
def measure_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[TaskPrompt]
) -> TaskAccuracy:
    """Measure the next-token accuracy of the demo's model on prompts whose answers are single
    tokens."""
    rows = [tokenizer(prompt.prompt)["input_ids"] for prompt in prompts]
    sides = torch.tensor(
        [[tokenizer(w, add_special_tokens=False)["input_ids"][0] for w in p[1:]] for p in prompts]
    )
    pair, top = 0, 0
    for length in {len(row) for row in rows}:  # prompts of one length together, without padding
        numbers = [number for number, row in enumerate(rows) if len(row) == length]
        ids = torch.tensor([rows[number] for number in numbers])
        logits = model(ids, logits_to_keep=1).logits[:, -1]
        answer, wrong = (logits.gather(1, column[:, None]) for column in sides[numbers].T)
        pair += int((answer > wrong).sum())
        top += int((logits.argmax(-1) == sides[numbers, 0]).sum())
    return TaskAccuracy(pair / len(prompts), top / len(prompts), len(prompts))


@dataclass(frozen=True)
class DictionaryQuality:
    """Reconstruction quality of one of the demo's dictionaries, without BOS and padding."""

    explained_variance: float
    l0: float
    delta_ce: float
    """Increase of the model's loss in nats per token with the dictionary spliced in."""
    recovered_mean: float
    """Loss recovered by the dictionary: 1 is as good as the original activation, 0 as bad as mean
    ablation."""
    recovered_zero: float


Reconstruct = Callable[[Float[Tensor, "row d_in"]], tuple[Tensor, Tensor]]
"""Function of a dictionary: takes activations [row, d_in], returns feature activations and
reconstruction."""


def load_demo_dictionary(plan: DemoDictionaryPlan) -> Reconstruct:
    """Load one of the demo's dictionaries as a function from flattened activations to (features,
    reconstruction)."""
    from sae_lens import SAE

    sae = SAE.load_from_disk(WEIGHTS / plan.name)
    sae.turn_off_forward_pass_hook_z_reshaping()

    def encode_decode(x: Float[Tensor, "row d_in"]) -> tuple[Tensor, Tensor]:
        features = sae.encode(x)
        return features, sae.decode(features)

    return encode_decode


@torch.inference_mode()
def measure_quality(
    lm: LanguageModel, plan: DemoDictionaryPlan, tokens: list[DemoBatch]
) -> DictionaryQuality:
    """Measure a dictionary's reconstruction quality: splice it into the model on `tokens` and
    compare the loss with mean ablation and zero ablation."""
    encode_decode = load_demo_dictionary(plan)
    acts = collect_activations(lm, tokens, [plan.hook, plan.hook_out])
    x, y = acts[plan.hook], acts[plan.hook_out]
    features, reconstruction = encode_decode(x)
    mean = y.mean(0)
    unexplained = (y - reconstruction).pow(2).sum() / (y - mean).pow(2).sum()

    def make_edit(
        batch: DemoBatch, replace: Callable[[Tensor], Tensor]
    ) -> Callable[[Tensor], Tensor]:
        keep = counted_token_mask(lm, batch)[..., None]
        source = lm.activations(batch, [plan.hook])[plan.hook]
        # BOS and padding keep their activations: dictionaries are not trained on them.
        return lambda act: torch.where(keep, replace(source), act)

    replacements = (lambda x: encode_decode(x)[1], lambda x: mean, lambda x: torch.zeros(()))
    clean = _mean_loss(lm, tokens)
    spliced, by_mean, by_zero = (
        _mean_loss(
            lm, tokens, lambda batch, replace=replace: {plan.hook_out: make_edit(batch, replace)}
        )
        for replace in replacements
    )
    return DictionaryQuality(
        explained_variance=1 - float(unexplained),
        l0=float((features != 0).sum(1).float().mean()),
        delta_ce=spliced - clean,
        recovered_mean=(by_mean - spliced) / (by_mean - clean),
        recovered_zero=(by_zero - spliced) / (by_zero - clean),
    )


def _mean_loss(
    lm: LanguageModel,
    tokens: list[DemoBatch],
    edits: Callable[[DemoBatch], dict] = lambda batch: {},
) -> float:
    """Return the demo model's mean cross-entropy in nats over the counted next tokens, optionally
    with activation edits."""
    total, n = 0.0, 0
    for batch in tokens:
        keep = counted_token_mask(lm, batch)[:, 1:]
        total += float(lm.token_losses(batch, edits(batch))[keep].sum())
        n += int(keep.sum())
    return total / n


@torch.inference_mode()
def dead_feature_shares(lm: LanguageModel, plans: list[DemoDictionaryPlan]) -> dict[str, float]:
    """Return for each of the demo's dictionaries the share of features without an activation in
    DEAD_TOKENS tokens."""
    alive = {plan.name: torch.zeros(plan.d_sae, dtype=torch.bool) for plan in plans}
    runs = {plan.name: load_demo_dictionary(plan) for plan in plans}
    for batch in demo_token_batches(HARVEST_SEED, DEAD_TOKENS):
        acts = collect_activations(lm, [batch], [plan.hook for plan in plans])
        for plan in plans:
            alive[plan.name] |= (runs[plan.name](acts[plan.hook])[0] != 0).any(0)
    return {name: 1 - float(each.float().mean()) for name, each in alive.items()}


def sample_batches(generated: bool) -> Iterator[DemoBatch]:
    """Return token batches for evaluating the demo's dictionaries: only generated stories, or only
    standard-library pieces."""
    chosen = (d for d in demo_documents(HARVEST_SEED) if (d.template is not None) == generated)
    return padded_batches(itertools.islice(chosen, SPLICE_DOCUMENTS), MODEL)
