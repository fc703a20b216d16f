"""Reading the weight files of dictionaries (safetensors, torch.save, npz): tensors, their hash, and
shape checks."""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from backend.dictionaries.dictionary_sources import check_safetensors
from feature_store.errors import InputError


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the tensors of a weight file: names, dtypes, shapes and bytes in the
    order of names, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a safetensors weight file as stored; InputError where the file is
    damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_safetensors(path)
    try:
        return load_file(path)
    except (SafetensorError, KeyError, ValueError, RuntimeError, OverflowError) as bad:
        raise InputError(f"{path} is damaged: {last_error_line(bad)}.") from bad


def read_pickle_free(path: Path) -> dict[str, Tensor]:
    """Return the state dict that torch.save wrote, without running any code that the file may
    contain."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as bad:
        raise InputError(
            f"{path} cannot be read as plain tensors ({type(bad).__name__}); files that hold "
            "Python objects are refused, as opening them can run code."
        ) from bad
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path} does not hold a table of tensors.")
    return dict(state)


def check_coder_shapes(
    path: Path,
    W_enc: Tensor,
    b_enc: Tensor,
    W_dec: Tensor,
    b_dec: Tensor,
    **others: Tensor,
) -> None:
    """Raise InputError where the tensors of an affine coder do not fit each other.

    W_enc [d_in d_sae] determines the widths; b_enc and `others` must be [d_sae] (or a single
    number), W_dec [d_sae d_out], b_dec [d_out], W_skip [d_out d_in].
    """
    if W_enc.ndim != 2 or W_dec.ndim != 2:
        named = {"encoder": W_enc, "decoder": W_dec}
        name, tensor = next((n, t) for n, t in named.items() if t.ndim != 2)
        raise InputError(f"{path} has an {name} of shape {list(tensor.shape)}: not a matrix.")
    (d_in, d_sae), d_out = W_enc.shape, W_dec.shape[1]
    wanted = {"decoder": (W_dec, (d_sae, d_out)), "encoder's bias": (b_enc, (d_sae,))}
    wanted["decoder's bias"] = (b_dec, (d_out,))
    for name, tensor in others.items():
        if tensor.numel() != 1:
            wanted[name] = (tensor, (d_out, d_in) if name == "W_skip" else (d_sae,))
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape:
            raise InputError(
                f"{path} does not fit together: its {name} has shape {list(tensor.shape)}, where "
                f"its encoder of {d_in} × {d_sae} asks for {list(shape)}."
            )


def read_npz(path: Path) -> dict[str, Tensor]:
    """Return all arrays of a numpy .npz file as float32 tensors, without opening
    pickled objects."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name].astype("<f4")) for name in arrays.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as bad:
        raise InputError(
            f"{path} cannot be read as arrays of numbers: {last_error_line(bad)}."
        ) from bad


@contextmanager
def explain_misfit(what: str) -> Iterator[None]:
    """Turn errors of torch or sae-lens about the tensors of a weight file that do not fit its
    config into one InputError sentence.

    `what` begins the sentence: "The weights in FOLDER do not fit its cfg.json".
    """
    try:
        yield
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError, KeyError, AssertionError, AttributeError) as bad:
        raise InputError(f"{what} ({last_error_line(bad)}).") from bad


def last_error_line(error: BaseException) -> str:
    """Return the last line of an error's message, for sentences about damaged weight files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


def take_tensor(state: Mapping[str, Tensor], path: Path, *names: str) -> Tensor:
    """Return the first of these names that a weight file's tensors have; InputError where it has
    none."""
    for name in names:
        if name in state:
            return state[name]
    wanted = " or ".join(names)
    raise InputError(f"{path} has no tensor {wanted}; it has {', '.join(sorted(state))}.")


def move_tensors(
    tensors: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return contiguous copies of a weight file's tensors on the device, in the dtype."""
    return {name: t.to(device, dtype).contiguous() for name, t in tensors.items()}
