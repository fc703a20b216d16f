"""Checks that weights of models and dictionaries are finite (no NaN or infinity), made when they
are loaded.

A comparison with NaN is always false, so that NaN weights would give dead features and
harmless-looking numbers instead of an error.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from feature_store.errors import InputError

FEATURE_AXES = {
    "W_enc": 1,
    "b_enc": 0,
    "W_dec": 0,
    "threshold": 0,
    "log_threshold": 0,
    "b_gate": 0,
    "b_mag": 0,
    "r_mag": 0,
    "gate_bias": 0,
    "mag_bias": 0,
    "encoder.weight": 0,
    "encoder.bias": 0,
    "decoder.weight": 1,
    "directions": 0,
    "scaling_factor": 0,
    "finetuning_scaling_factor": 0,
}
"""Maps a dictionary tensor's name to the axis that counts features, to name the features with
non-finite weights."""
MAX_LISTED_NUMBERS = 5
"""Number of features or rows with non-finite weights that an error lists."""


def all_finite(tensor: Tensor) -> Tensor:
    """Return, as a boolean tensor on the same device, whether every value of a weight tensor is
    finite (no NaN, no infinity).

    The host does not wait for the device. It takes one pass and no mask of the tensor's size.
    """
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return torch.ones((), dtype=torch.bool, device=tensor.device)
    return torch.stack(torch.aminmax(tensor.detach())).isfinite().all()


def is_finite(tensor: Tensor) -> bool:
    """Return whether every value of a tensor is finite (no NaN, no infinity)."""
    return bool(all_finite(tensor))


def check_dictionary_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise InputError that names the first dictionary tensor with NaN or infinity, and its
    features."""
    _check_tensors_finite(tensors.items(), where, "feature", "download or copy the file again")


def check_model_finite(model: torch.nn.Module, name: str) -> None:
    """Raise InputError that names the first parameter of a model with NaN or infinity, and its
    rows."""
    advice = "download or copy the files again"
    if any(p.dtype == torch.float16 for p in model.parameters()):
        advice = "load it in float32 or bfloat16, whose range is larger than float16's"
    _check_tensors_finite(model.named_parameters(), f"The model {name!r}", "row", advice)


def _check_tensors_finite(
    tensors: Iterable[tuple[str, Tensor]], where: str, unit: str, advice: str
) -> None:
    for name, tensor in tensors:
        if not is_finite(tensor):
            raise InputError(
                f"{where} cannot be used: its tensor {name} is not finite "
                f"{_locate_nonfinite_values(name, tensor, unit)}. No result computed from NaN "
                f"or infinity is valid; {advice}."
            )


def _locate_nonfinite_values(name: str, tensor: Tensor, unit: str) -> str:
    """Describe where a tensor is not finite: `at feature 3`, `at features 3, 17 and 2 more`, or the
    number of such values."""
    not_finite = ~tensor.detach().isfinite()
    rows = 0 if unit == "row" or tensor.ndim == 2 else None
    axis = rows if unit == "row" else FEATURE_AXES.get(name.removeprefix("_orig_mod."), rows)
    if axis is None or tensor.ndim <= axis:
        return f"at {int(not_finite.sum()):,} of its {tensor.numel():,} values"
    others = [i for i in range(tensor.ndim) if i != axis]
    numbers = (not_finite.any(dim=others) if others else not_finite).nonzero().flatten().tolist()
    shown = ", ".join(str(number) for number in numbers[:MAX_LISTED_NUMBERS])
    more = len(numbers) - MAX_LISTED_NUMBERS
    plural = "" if len(numbers) == 1 else "s"
    return f"at {unit}{plural} {shown}" + (f" and {more:,} more" if more > 0 else "")
