"""Loading of a Hugging Face model and its tokenizer, with a sentence that explains a failure."""

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
    """Load a Hugging Face model (in evaluation mode, frozen, on its device) and its tokenizer.

    Raise InputError for a broken folder, a name that the hub does not have, a model that is not a
    causal language model, a checkpoint that lacks weights (transformers would fill them at random),
    and weights that are not finite.
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
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise InputError(_explain_load_failure(model, error)) from error
    network, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        raise InputError(
            f"The checkpoint {Path(model).name!r} lacks {len(missing)} of the weights that its "
            f"config requires, such as {missing[0]}: config and weights belong to different models."
        )
    check_model_finite(network, Path(model).name if Path(model).is_dir() else model)
    return network.to(placement.device).eval().requires_grad_(False), tokenizer


def hash_model_folder(folder: Path) -> str | None:
    """Hash a model folder: sha256 (hex) over the bytes of its safetensors files in name order; None
    if there are none."""
    digest = hashlib.sha256()
    files = list_weight_files(folder) if folder.is_dir() else []
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest() if files else None


def hash_state_dict(state: dict[str, torch.Tensor]) -> str:
    """Hash a model in memory: sha256 (hex) over the names and bytes of its state dict, in name
    order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        flat = state[name].detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def find_bos_token(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Find the token id that begins a sequence when a model is loaded: the tokenizer's BOS, else
    the EOS that serves as BOS, else None."""
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
    """Build TransformerLens' bridge around a loaded Hugging Face model, which is rewired in place.

    Raise InputError for a model that TransformerLens does not support.
    """
    # TransformerLens warns of its own internals while booting, which would only confuse a user.
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
    except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
        kind = getattr(network.config, "model_type", "unknown")
        reason = str(error).split(". ")[0]  # what follows lists every architecture there is
        raise InputError(
            f"TransformerLens does not support the model {name!r} of type {kind!r}: {reason}."
        ) from error


def _escape_model_alias(name: str) -> str:
    """Return a name for a loaded model that TransformerLens does not take for an alias of a hub
    model.

    For a folder called `gptj` it would warn that another model is loaded instead, which is wrong:
    the weights are in memory already.
    """
    is_alias = any(name in aliases for aliases in MODEL_ALIASES.values())
    return f"./{name}" if is_alias else name


def _explain_load_failure(model: str, error: BaseException) -> str:
    message = str(error).strip()
    if Path(model).is_dir() and "instantiate the backend tokenizer" in message:
        return missing_tokenizer_message(Path(model))
    summary = (message.splitlines() or [repr(error)])[0]
    if summary.endswith(":"):  # a list follows
        summary = " ".join(message.split())
    if Path(model).is_dir():
        return f"The model in {Path(model).name!r} cannot be loaded: {summary}"
    return (
        f"No model {model!r}: there is no such folder, and the Hugging Face hub does not give it "
        f"({summary})"
    )
