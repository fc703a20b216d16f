"""Tiny random models of several architectures, built in milliseconds and offline."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

SPECIAL = ["<s>", "</s>", "<pad>", "<unk>"]
TEXT = (
    "the a cat dog bird fish girl boy mum dad went ran saw ate gave took liked found said was "
    "is to in on and then but with of his her big small red blue happy sad old new ball tree "
    "house park lake book box bread day night one two . , ! ?"
)
WORDS = TEXT.split()
VOCAB = [*SPECIAL, *WORDS]
N_CTX = 32

_ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
_shape = {
    "vocab_size": len(VOCAB),
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": N_CTX,
    **_ids,
}


def configs() -> dict[str, PretrainedConfig]:
    """One small config per architecture family: 3 layers, d_model 16, 4 heads."""
    return {
        "llama": LlamaConfig(**_shape, num_key_value_heads=2),
        "gpt2": GPT2Config(
            vocab_size=len(VOCAB), n_embd=16, n_layer=3, n_head=4, n_positions=N_CTX, **_ids
        ),
        "neox": GPTNeoXConfig(**_shape),
        "gemma2": Gemma2Config(**_shape, num_key_value_heads=2, head_dim=8),
        "qwen2": Qwen2Config(**_shape, num_key_value_heads=2),
    }


def odd_configs() -> dict[str, PretrainedConfig]:
    """More of them: parallel attention, no attention, sliding windows with one key-value head."""
    return {
        "gptj": GPTJConfig(
            vocab_size=len(VOCAB),
            n_embd=16,
            n_layer=3,
            n_head=4,
            n_positions=N_CTX,
            rotary_dim=4,
            **_ids,
        ),
        "mamba": MambaConfig(
            vocab_size=len(VOCAB), hidden_size=16, num_hidden_layers=3, state_size=4, **_ids
        ),
        "gemma3": Gemma3TextConfig(
            **{**_shape, "max_position_embeddings": 64, "num_hidden_layers": 2},
            num_key_value_heads=1,
            head_dim=8,
            query_pre_attn_scalar=8,
            sliding_window=6,
            layer_types=["sliding_attention", "full_attention"],
            architectures=["Gemma3ForCausalLM"],
        ),
    }


def tokenizer() -> PreTrainedTokenizerFast:
    """One id per word; `add_bos_token` keeps TransformerLens from looking for it on the hub."""
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(VOCAB)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        name_or_path="tiny",
        add_bos_token=True,
    )


def hf_model(architecture: str = "llama", seed: int = 0) -> PreTrainedModel:
    """A random Hugging Face model whose norms and biases differ from their neutral start."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config((configs() | odd_configs())[architecture]).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # gains start at 1 and biases at 0, which would hide mistakes
                parameter.add_(torch.randn_like(parameter) * 0.3)
            elif "embed" not in name and "wte" not in name:
                parameter.mul_(5)
    return model


def tiny(architecture: str = "llama", seed: int = 0, placement=None):
    """A random `Lm` of one's own: vocabulary `VOCAB`, context 32; on the CPU unless placed
    elsewhere. 100 ms: see `shared`."""
    from backend.model.device import choose_placement
    from backend.model.language_model import LanguageModel

    place = placement or choose_placement("cpu")
    return LanguageModel.wrap(
        hf_model(architecture, seed), tokenizer(), f"tiny-{architecture}", place
    )


def shared(architecture: str = "llama", seed: int = 0):
    """The same `Lm` for all tests that leave it as it is; random numbers go on as after `tiny`."""
    if (architecture, seed) not in _made:
        lm = tiny(architecture, seed)
        _made[architecture, seed] = (lm, torch.get_rng_state(), look(lm))
    lm, state, _ = _made[architecture, seed]
    torch.set_rng_state(state)
    return lm


_made: dict[tuple[str, int], tuple[Any, torch.Tensor, tuple[str, int]]] = {}


def look(lm) -> tuple[str, int]:
    """What a test that leaves a model as it is does not change: its weights, and no hooks."""
    from backend.model.model_loading import hash_state_dict

    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.bare.modules())
    return hash_state_dict(lm.bare.state_dict()), hooks


def assert_left_as_they_were() -> None:
    """That no test changed a shared model."""
    for (architecture, seed), (lm, _, before) in _made.items():
        assert look(lm) == before, f"a test has changed shared({architecture!r}, {seed})"


def save(folder: Path, architecture: str = "llama", seed: int = 0) -> Path:
    """Write a random model and its tokenizer as a Hugging Face folder."""
    hf_model(architecture, seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def token_batch(batch: int, pos: int, seed: int = 0) -> torch.Tensor:
    """Random ordinary tokens behind a BOS: int64 [batch pos]."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(len(SPECIAL), len(VOCAB), (batch, pos), generator=generator)
    tokens[:, 0] = 0
    return tokens
