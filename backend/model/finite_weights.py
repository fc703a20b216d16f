"""Whether numbers are finite: weights of models and dictionaries must be, where they are loaded.

A comparison with NaN is always false, so that dead features and healthy numbers come out where
nothing can be computed. It is refused where weights enter.
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
"""A tensor's name -> the axis that counts features."""
MAX_LISTED_NUMBERS = 5


def all_finite(tensor: Tensor) -> Tensor:
    """Return whether every value is finite as a tensor on its device: nothing waits for it.

    One pass, and no mask of the tensor's size.
    """
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return torch.ones((), dtype=torch.bool, device=tensor.device)
    return torch.stack(torch.aminmax(tensor.detach())).isfinite().all()


def is_finite(tensor: Tensor) -> bool:
    """Return whether every value is finite."""
    return bool(all_finite(tensor))


def check_dictionary_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """InputError that names a dictionary's first tensor with NaN or infinity, and its features."""
    _check_tensors_finite(tensors.items(), where, "feature", "get a whole copy of the file")


def check_model_finite(model: torch.nn.Module, name: str) -> None:
    """InputError that names a model's first parameter with NaN or infinity, and its rows."""
    advice = "get a whole copy of the files"
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
                f"{_locate_nonfinite_values(name, tensor, unit)}. Nothing right can be computed "
                f"from NaN "
                f"or infinity; {advice}."
            )


def _locate_nonfinite_values(name: str, tensor: Tensor, unit: str) -> str:
    """Return `at feature 3`, `at features 3, 17 and 2 more`, or how many values it concerns."""
    bad = ~tensor.detach().isfinite()
    rows = 0 if unit == "row" or tensor.ndim == 2 else None
    axis = rows if unit == "row" else FEATURE_AXES.get(name.removeprefix("_orig_mod."), rows)
    if axis is None or tensor.ndim <= axis:
        return f"at {int(bad.sum()):,} of its {tensor.numel():,} values"
    others = [i for i in range(tensor.ndim) if i != axis]
    numbers = (bad.any(dim=others) if others else bad).nonzero().flatten().tolist()
    shown = ", ".join(str(number) for number in numbers[:MAX_LISTED_NUMBERS])
    more = len(numbers) - MAX_LISTED_NUMBERS
    plural = "" if len(numbers) == 1 else "s"
    return f"at {unit}{plural} {shown}" + (f" and {more:,} more" if more > 0 else "")
