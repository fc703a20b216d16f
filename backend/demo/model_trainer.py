"""Trainer of the demo's model: a small Llama trained on stories with known answers and on the
standard library."""

import itertools
import logging
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from backend.demo.demo_texts import DemoDocument, generate_drill, generate_story, stdlib_documents
from backend.demo.dictionary_plans import CONTEXT_TOKENS, N_LAYERS
from backend.demo.tokenizer_trainer import TRAINING_SEED

log = logging.getLogger(__name__)

DemoBatch = Int[Tensor, "row position"]

ROWS_PER_BATCH = 8
MATRIX_LEARNING_RATE = 0.02
"""Learning rate of Muon, for the matrices inside the blocks. AdamW alone took more than ten times
the tokens before the model began to copy, and most tasks need copying."""
OTHER_LEARNING_RATE = 3e-3
"""Learning rate of AdamW, for embeddings and normalisation gains."""
WARM_UP_STEPS = 50
BATCH_TOKENS = 2048


def create_model(vocabulary: int, bos: int, pad: int) -> LlamaForCausalLM:
    """Create the demo's untrained Llama model: four layers of width 128, 1.6 million parameters,
    untied embeddings."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=False,
        bos_token_id=bos,
        eos_token_id=None,
        pad_token_id=pad,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config)


def training_texts(seed: int, drills: float) -> Iterator[str]:
    """Yield the demo model's training texts without end: a share `drills` of drills, otherwise one
    tenth standard library and the rest stories."""
    library = stdlib_documents()
    for i in itertools.count():
        rng = random.Random(f"mixture {seed} {i}")
        if rng.random() < drills:
            yield generate_drill(rng)
        elif rng.random() < 0.1 and (piece := next(library, None)):
            yield piece.text
        else:
            yield generate_story(seed, i)[0]


def packed_batches(texts: Iterator[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[DemoBatch]:
    """Yield training batches [ROWS_PER_BATCH, CONTEXT_TOKENS] of texts packed end to end, with a
    BOS before each text and at the start of each row.

    Every batch mixes all kinds of text and contains no padding.
    """
    rows = _packed_rows(texts, tokenizer)
    while True:
        yield torch.tensor(list(itertools.islice(rows, ROWS_PER_BATCH)))


def _packed_rows(texts: Iterator[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    """Yield training rows for the demo's model, CONTEXT_TOKENS token ids each, cut from the texts
    packed end to end."""
    bos = tokenizer("")["input_ids"][0]
    buffer: list[int] = []
    for text in texts:
        buffer += tokenizer(text, truncation=True, max_length=CONTEXT_TOKENS)["input_ids"]
        while len(buffer) >= CONTEXT_TOKENS:
            yield buffer[:CONTEXT_TOKENS]
            buffer = buffer[CONTEXT_TOKENS:]
            if buffer and buffer[0] != bos:
                buffer = [bos, *buffer]


def padded_batches(
    documents: Iterator[DemoDocument], folder: Path, chunk: int = 3000
) -> Iterator[DemoBatch]:
    """Yield batches of about BATCH_TOKENS tokens of the demo's texts: one document per row, BOS
    first, padded on the right.

    Within each chunk of documents, those of similar length share a batch, which keeps padding
    small.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    shuffle = random.Random("batches").shuffle
    while texts := [document.text for document in itertools.islice(documents, chunk)]:
        ids = tokenizer(texts, truncation=True, max_length=CONTEXT_TOKENS)["input_ids"]
        groups: list[list[list[int]]] = [[]]
        for row in sorted(ids, key=len):
            if (len(groups[-1]) + 1) * len(row) > BATCH_TOKENS:
                groups.append([])
            groups[-1].append(row)
        shuffle(groups)
        for group in groups:
            yield torch.tensor(_pad_rows(group, tokenizer.pad_token_id))


def _pad_rows(group: list[list[int]], pad: int) -> list[list[int]]:
    """Pad rows of token ids on the right to the longest row of the batch, for the demo's model."""
    longest = max(map(len, group))
    return [row + [pad] * (longest - len(row)) for row in group]


def train_model(folder: Path, tokens: int) -> None:
    """Train the demo's model on `tokens` tokens with one thread, and save its float32 weights next
    to the tokenizer."""
    transformers_logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = create_model(len(tokenizer), tokenizer.bos_token_id, tokenizer.pad_token_id)
    # Many drills first, so that the model learns to copy; then mostly the demo's own texts.
    texts = itertools.chain(
        itertools.islice(training_texts(TRAINING_SEED, drills=0.3), tokens // 150),
        training_texts(TRAINING_SEED + 100, drills=0.05),
    )
    run_training_steps(model, packed_batches(texts, tokenizer), tokens)
    model.eval().save_pretrained(folder)


def run_training_steps(model: LlamaForCausalLM, batches: Iterator[DemoBatch], tokens: int) -> None:
    """Run next-token training of the demo's model for `tokens` tokens. The learning rates warm up,
    then fall to zero over the second half."""
    optimizers = _create_optimizers(model)
    steps = tokens // (ROWS_PER_BATCH * CONTEXT_TOKENS)
    started = time.monotonic()
    for step, batch in zip(range(steps), batches, strict=False):
        loss = model(batch, labels=batch).loss
        loss.backward()
        rate_scale = min(1.0, (step + 1) / WARM_UP_STEPS, 2 * (1 - step / steps))
        for optimizer, rate in optimizers:
            optimizer.param_groups[0]["lr"] = rate * rate_scale
            optimizer.step()
        model.zero_grad(set_to_none=True)
        if step % 100 == 0:
            seconds = time.monotonic() - started
            log.info("step %d of %d, %.0f s: loss %.3f nats", step, steps, seconds, loss.item())


def _create_optimizers(model: LlamaForCausalLM) -> list[tuple[torch.optim.Optimizer, float]]:
    """Return the optimizers of the demo's model with their peak learning rates: Muon for the
    blocks' matrices, AdamW for all other parameters."""
    matrices = [p for p in model.model.layers.parameters() if p.dim() == 2]
    known = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in known]
    return [
        (
            torch.optim.Muon(matrices, lr=MATRIX_LEARNING_RATE, weight_decay=0.0),
            MATRIX_LEARNING_RATE,
        ),
        (
            torch.optim.AdamW(others, lr=OTHER_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0),
            OTHER_LEARNING_RATE,
        ),
    ]
