"""The workload: a GPT-2 of the benchmarks' own and three TopK dictionaries, built offline, cached.

The model is barely trained and the dictionaries are not trained at all. Both behave like real ones
in what they cost: shapes, L0, and densities of features spread over two orders of magnitude.
"""

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.corpus import open_corpus

K = 32
BOS = "<s>"
DENSITY_SPREAD = 1.2
"""Standard deviation of the logarithm of a feature's density."""
LIFT = 1.0
"""Added to every bias: TopK selects the same features, and few of them are cut off at zero."""
TILE = 1024


@dataclass(frozen=True)
class Size:
    """How large the workload is."""

    d_model: int = 256
    layers: int = 6
    heads: int = 4
    vocabulary: int = 8192
    context: int = 128
    layer: int = 3
    """The dictionaries read the residual stream behind this block."""
    widths: tuple[int, ...] = (4096, 16_384, 65_536)
    steps: int = 40
    batch: int = 8
    documents: int = 1500
    """Documents that the tokenizer and the model are trained on."""
    calibration: int = 8192
    """Tokens from which the dictionaries are built."""

    @property
    def hook(self) -> str:
        """Where the dictionaries read."""
        return f"blocks.{self.layer}.hook_resid_post"


FULL = Size()
TINY = Size(
    d_model=32,
    layers=2,
    vocabulary=512,
    context=32,
    layer=0,
    widths=(128, 256),
    steps=2,
    documents=12,
    calibration=512,
)


@dataclass(frozen=True)
class Workload:
    """The built folders."""

    size: Size
    root: Path

    @property
    def model(self) -> Path:
        """A Hugging Face folder, with its tokenizer."""
        return self.root / "model"

    def dictionary(self, width: int) -> Path:
        """A folder of sae-lens' format."""
        return self.root / f"sae-{width}"


def build(root: Path, size: Size = FULL) -> Workload:
    """Make what is not there yet; seconds for TINY, about three minutes on one core for FULL."""
    work = Workload(size, root)
    once(work.model, lambda folder: save_model(folder, size))
    if not all(work.dictionary(width).exists() for width in size.widths):
        x = calibration_activations(work.model, size)
        for width in size.widths:
            once(work.dictionary(width), lambda to, w=width: dictionary(x, w, size).save_model(to))
    return work


def once(folder: Path, write: Callable[[Path], Any]) -> None:
    """Write a folder under another name and rename it, so that a half-made one is never used."""
    if folder.exists():
        return
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    write(fresh)
    fresh.rename(folder)


def library_texts(documents: int) -> Iterator[str]:
    """The first texts of Python's standard library."""
    return (document.text for document in islice(open_corpus("stdlib"), documents))


def save_model(folder: Path, size: Size) -> None:
    """Train a tokenizer, then the model for a few steps, and save both."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = trained_tokenizer(size)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=size.context,
        n_embd=size.d_model,
        n_layer=size.layers,
        n_head=size.heads,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.bos_token_id,
    )
    model = GPT2LMHeadModel(config)
    batches = token_rows(tokenizer, size, size.steps * size.batch).split(size.batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for tokens in batches:
        optimizer.zero_grad()
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def trained_tokenizer(size: Size) -> Any:
    """A byte-level BPE of the standard library."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size.vocabulary,
        special_tokens=[BOS],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    bpe.train_from_iterator(library_texts(size.documents), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=BOS, add_bos_token=True)


def token_rows(tokenizer: Any, size: Size, rows: int) -> Int[Tensor, "rows context"]:
    """BOS and text, cut into full rows from all over the library."""
    found: list[list[int]] = []
    texts = list(library_texts(size.documents))
    torch.manual_seed(1)
    for index in torch.randperm(len(texts)).tolist():
        ids = tokenizer(texts[index], add_special_tokens=False)["input_ids"]
        step = size.context - 1
        pieces = [ids[i : i + step] for i in range(0, len(ids) - step, step)]
        found += [[tokenizer.bos_token_id, *piece] for piece in pieces[:16]]
        if len(found) >= rows:
            break
    return torch.tensor(found[:rows])


@torch.inference_mode()
def calibration_activations(folder: Path, size: Size) -> Float[Tensor, "n d_model"]:
    """What the hook point gives on a sample of the library, BOS left out."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    rows = token_rows(
        AutoTokenizer.from_pretrained(folder), size, -(-size.calibration // (size.context - 1))
    )
    hidden = [
        model(part, output_hidden_states=True).hidden_states[size.layer + 1]
        for part in rows.split(16)
    ]
    return torch.cat(hidden)[:, 1:].flatten(0, 1)[: size.calibration]


def dictionary(x: Float[Tensor, "n d_model"], width: int, size: Size) -> Any:
    """A sae-lens TopK SAE that reads random directions of the whitened activations.

    Half of the directions point near activations of the sample. Biases put each feature's threshold
    at the quantile of the density that it was given, log-normal with mean K / width.
    """
    from sae_lens import SAE

    torch.manual_seed(width)
    mean = x.mean(0)
    values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    root = values.clamp(min=float(values.max()) * 1e-6).sqrt()
    whiten = vectors / root
    white = (x - mean) @ whiten
    drawn = white[torch.randint(len(x), (width // 2,))]
    drawn = drawn + 0.5 * torch.randn_like(drawn)  # no two alike, or TopK has exact ties
    directions = torch.cat([drawn, torch.randn(width - len(drawn), x.shape[1])])
    directions = directions[torch.randperm(width)]
    directions /= directions.norm(dim=1, keepdim=True)
    W_dec = directions @ (vectors * root).T
    sae: Any = SAE.from_dict(sae_config(x.shape[1], width, size))
    sae.W_enc.data = (whiten @ directions.T).contiguous()
    sae.b_enc.data = balanced_biases(white, directions) + LIFT
    sae.W_dec.data = W_dec / W_dec.norm(dim=1, keepdim=True)
    sae.b_dec.data = mean.clone()
    return sae


def balanced_biases(
    white: Float[Tensor, "n d"], directions: Float[Tensor, "width d"]
) -> Float[Tensor, "width"]:
    """Minus the value that each feature exceeds on its share of the tokens."""
    width, n = len(directions), len(white)
    density = torch.exp(torch.randn(width) * DENSITY_SPREAD)
    density *= K / float(density.sum())
    rank = (density * n).ceil().clamp(1, math.ceil(n / 4)).long()
    bias = torch.empty(width)
    for tile in rank.argsort().split(TILE):  # features of like density together: small topk
        best = (white @ directions[tile].T).topk(int(rank[tile].max()), dim=0).values
        bias[tile] = -best.gather(0, rank[tile][None] - 1)[0]
    return bias


def sae_config(d_in: int, width: int, size: Size) -> dict[str, Any]:
    """sae-lens' configuration; SAEDashboard needs `rescale_acts_by_decoder_norm`."""
    metadata = {
        "hook_name": size.hook,
        "model_name": "gpt2",
        "context_size": size.context,
        "prepend_bos": True,
    }
    return {
        "architecture": "topk",
        "k": K,
        "d_in": d_in,
        "d_sae": width,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "rescale_acts_by_decoder_norm": True,
        "metadata": metadata,
    }
