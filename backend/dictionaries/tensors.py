"""Reading weights: their hash, whether every number is finite, and the shapes of a format."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from backend.dictionaries.sources import check_safetensors
from feature_store.errors import InputError

FEATURE_AXES = {
    "W_enc": 1, "b_enc": 0, "W_dec": 0, "threshold": 0, "log_threshold": 0, "b_gate": 0,
    "b_mag": 0, "r_mag": 0, "gate_bias": 0, "mag_bias": 0, "encoder.weight": 0, "encoder.bias": 0,
    "decoder.weight": 1, "directions": 0, "scaling_factor": 0, "finetuning_scaling_factor": 0,
}  # fmt: skip
"""A tensor's name -> the axis that counts features."""
LISTED_FEATURES = 5


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


def is_finite(tensor: Tensor) -> bool:
    """Return whether every value is finite, in one pass and without a mask of its size."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    return bool(torch.stack(torch.aminmax(tensor.detach())).isfinite().all())


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """InputError that names the first tensor with NaN or infinity, and which features have it."""
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise InputError(
                f"{where} cannot be used: its tensor {name} is not finite "
                f"{_name_bad_features(name, tensor)}. Nothing right can be computed from NaN or "
                "infinity; get a whole copy of the file."
            )


def _name_bad_features(name: str, tensor: Tensor) -> str:
    """Return `at feature 3`, `at features 3, 17 and 2 more`, or how many values it concerns."""
    bad = ~tensor.detach().isfinite()
    axis = FEATURE_AXES.get(name.removeprefix("_orig_mod."), 0 if tensor.ndim == 2 else None)
    if axis is None or tensor.ndim <= axis:
        n = int(bad.sum())
        return f"at {n:,} of its {tensor.numel():,} values"
    others = [i for i in range(tensor.ndim) if i != axis]
    numbers = (bad.any(dim=others) if others else bad).nonzero().flatten().tolist()
    shown = ", ".join(str(number) for number in numbers[:LISTED_FEATURES])
    more = len(numbers) - LISTED_FEATURES
    noun = "feature" if len(numbers) == 1 else "features"
    return f"at {noun} {shown}" + (f" and {more:,} more" if more > 0 else "")


def check_coder_shapes(
    path: Path,
    W_enc: Tensor,
    b_enc: Tensor,
    W_dec: Tensor,
    b_dec: Tensor,
    **others: Tensor,
) -> None:
    """InputError where the tensors of one affine coder do not fit each other.

    W_enc [d_in d_sae] gives the widths; b_enc and `others` are [d_sae] (a single number fits, too),
    W_dec [d_sae d_out], b_dec [d_out], W_skip [d_out d_in].
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


@contextmanager
def explain_misfit(what: str) -> Iterator[None]:
    """Turn what torch or sae-lens raises for tensors that do not fit into one sentence.

    `what` begins it: "The weights in FOLDER do not fit its cfg.json".
    """
    try:
        yield
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError, KeyError, AssertionError, AttributeError) as bad:
        raise InputError(f"{what} ({last_line(bad)}).") from bad


def last_line(error: BaseException) -> str:
    """Return the line of an error's message that says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


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
