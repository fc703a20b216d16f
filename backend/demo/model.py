"""Train the demo's model: a small Llama on stories with known answers and the standard library."""

import itertools
import logging
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from backend.demo.corpus import Document, demo_documents
from backend.demo.plan import CONTEXT, LAYERS
from backend.demo.tokenizer import TRAINING_SEED

log = logging.getLogger(__name__)

BATCH_TOKENS = 2048
PEAK_RATE = 3e-3
WARM_UP_STEPS = 200


def new_model(vocabulary: int, bos: int, pad: int) -> LlamaForCausalLM:
    """Four layers of width 128: 1.6 million parameters, untied embeddings."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=bos,
        eos_token_id=None,
        pad_token_id=pad,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config)


def batches(
    documents: Iterator[Document], folder: Path, chunk: int = 3000
) -> Iterator[Int[Tensor, "document position"]]:
    """Batches of about BATCH_TOKENS: one document per row, BOS first, padded on the right.

    Within each chunk of documents those of like length share a batch, so little is padded.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    shuffle = random.Random("batches").shuffle
    while texts := [document.text for document in itertools.islice(documents, chunk)]:
        rows = sorted((ids[:CONTEXT] for ids in tokenizer(texts)["input_ids"]), key=len)
        groups: list[list[list[int]]] = [[]]
        for row in rows:
            if (len(groups[-1]) + 1) * len(row) > BATCH_TOKENS:
                groups.append([])
            groups[-1].append(row)
        shuffle(groups)
        for group in groups:
            yield torch.tensor(_pad(group, tokenizer.pad_token_id))


def _pad(group: list[list[int]], pad: int) -> list[list[int]]:
    longest = max(map(len, group))
    return [row + [pad] * (longest - len(row)) for row in group]


def train_model(folder: Path, tokens: int) -> None:
    """Train for `tokens` tokens on one thread and save float32 weights beside the tokenizer."""
    transformers_logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = new_model(len(tokenizer), tokenizer.bos_token_id, tokenizer.pad_token_id)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    seen, started = 0, time.monotonic()
    for step, batch in enumerate(batches(demo_documents(TRAINING_SEED), folder)):
        rate = _rate(step, seen / tokens)
        for group in optimizer.param_groups:
            group["lr"] = rate
        labels = batch.masked_fill(batch == tokenizer.pad_token_id, -100)
        loss = model(batch, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen += int((labels >= 0).sum())
        if step % 100 == 0:
            speed = seen / (time.monotonic() - started)
            log.info("step %d, %d tokens, %.0f/s: loss %.3f nats", step, seen, speed, loss.item())
        if seen >= tokens:
            break
    model.eval().save_pretrained(folder)


def _rate(step: int, done: float) -> float:
    """Linear warm-up, then a cosine down to zero at `done` = 1."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    return PEAK_RATE * warm * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
