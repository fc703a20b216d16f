"""Reading a Hugging Face model and its tokenizer, and saying in a sentence why that failed."""

import copy
import hashlib
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.supported_models import MODEL_ALIASES
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from backend.model.device import Placement
from backend.model.finite_weights import check_model_finite
from backend.model.loading_lock import hold_loading_lock
from backend.model.model_source_checks import (
    check_model_source,
    list_weight_files,
    missing_tokenizer_message,
)
from feature_store.errors import InputError

CHUNK_BYTES = 1 << 24


def load_model_and_tokenizer(
    model: str, placement: Placement, *, trust_remote_code: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in evaluation mode, frozen, placed; and its tokenizer.

    InputError for a broken folder, a name the hub does not have, a model that is no causal language
    model, a checkpoint that lacks weights (which would otherwise be filled at random), or weights
    that are not finite.
    """
    check_model_source(model)
    transformers_logging.disable_progress_bar()
    try:
        with hold_loading_lock():
            tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                model,
                dtype=placement.dtype,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                use_safetensors=True,  # a pickle is never opened
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as bad:
        raise InputError(_explain_load_failure(model, bad)) from bad
    network, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        raise InputError(
            f"The checkpoint {Path(model).name!r} lacks {len(missing)} of the weights that its "
            f"config asks for, {missing[0]} for one: config and weights do not belong together."
        )
    check_model_finite(network, Path(model).name if Path(model).is_dir() else model)
    return network.to(placement.device).eval().requires_grad_(False), tokenizer


def hash_model_folder(folder: Path) -> str | None:
    """sha256 (hex) over the safetensors files' bytes in name order; None where there are none."""
    digest = hashlib.sha256()
    files = list_weight_files(folder) if folder.is_dir() else []
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest() if files else None


def hash_state_dict(state: dict[str, torch.Tensor]) -> str:
    """sha256 (hex) over names and bytes of a state dict, in name order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        flat = state[name].detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def find_bos_token(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that begins a sequence: the tokenizer's BOS, else the EOS that serves as one."""
    if isinstance(tokenizer.bos_token_id, int):
        return tokenizer.bos_token_id
    begins = getattr(network.config, "bos_token_id", None)
    ends = (tokenizer.eos_token_id, tokenizer.pad_token_id)
    return begins if isinstance(begins, int) and begins in ends else None


def boot_transformer_bridge(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    placement: Placement,
) -> TransformerBridge:
    """TransformerLens' bridge around a model in memory, which is rewired in place.

    InputError for a model that TransformerLens cannot serve.
    """
    # It warns of its own internals while booting; that is not the user's business.
    logging.getLogger("transformer_lens").setLevel(logging.ERROR)
    try:
        with hold_loading_lock():
            return TransformerBridge.boot_transformers(
                _escape_model_alias(name),
                hf_model=network,
                tokenizer=copy.deepcopy(tokenizer),
                device=str(placement.device),
                dtype=placement.dtype,
            )
    except (ValueError, KeyError, AttributeError, NotImplementedError) as bad:
        kind = getattr(network.config, "model_type", "unknown")
        reason = str(bad).split(". ")[0]  # what follows lists every architecture there is
        raise InputError(
            f"TransformerLens cannot serve the model {name!r} of type {kind!r}: {reason}."
        ) from bad


def _escape_model_alias(name: str) -> str:
    """A name that TransformerLens takes for no alias of a hub model.

    For a folder called `gptj` it would warn that another model is loaded in its place, which is
    not so: the weights are in memory already.
    """
    is_alias = any(name in aliases for aliases in MODEL_ALIASES.values())
    return f"./{name}" if is_alias else name


def _explain_load_failure(model: str, bad: BaseException) -> str:
    said = str(bad).strip()
    if Path(model).is_dir() and "instantiate the backend tokenizer" in said:
        return missing_tokenizer_message(Path(model))
    first = (said.splitlines() or [repr(bad)])[0]
    if first.endswith(":"):  # a list follows
        first = " ".join(said.split())
    if Path(model).is_dir():
        return f"The model in {Path(model).name!r} cannot be loaded: {first}"
    return (
        f"No model {model!r}: there is no such folder, and the Hugging Face hub does not give it "
        f"({first})"
    )
