"""Reading weights: their hash, and the shapes that a format promises."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from backend.dictionaries.sources import check_safetensors
from feature_store.errors import InputError


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes in the order of names, hex."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, as stored; InputError where the file is not whole."""
    from safetensors.torch import load_file

    check_safetensors(path)
    return load_file(path)


def read_pickle_free(path: Path) -> dict[str, Tensor]:
    """A state dict that torch.save wrote, read without running any code that it may contain."""
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


def take(state: Mapping[str, Tensor], path: Path, *names: str) -> Tensor:
    """The first of `names` that the state has; InputError where it has none."""
    for name in names:
        if name in state:
            return state[name]
    wanted = " or ".join(names)
    raise InputError(f"{path} has no tensor {wanted}; it has {', '.join(sorted(state))}.")


def moved(
    tensors: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Contiguous copies on the device, in the dtype."""
    return {name: t.to(device, dtype).contiguous() for name, t in tensors.items()}
