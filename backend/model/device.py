"""Device and precision (dtype) of the model's tensors: chosen once, with a sentence that gives the
reason."""

import os
import time
from dataclasses import dataclass
from functools import cache

import torch

from feature_store.errors import InputError, pick_by_name

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Precisions that tensors may have. float16 is left out: residual streams of several models
overflow it. Weights stored in float16 or bfloat16 are read and then computed with in one of
these."""
NOTABLE_SLOWDOWN = 1.5
"""Factor by which a dtype must be slower than float32 for the user to be warned of its slowness on
this device."""
SMALL_MODEL_WIDTH = 512
"""Model width (d_model) below which several CPU threads are slower than one."""


@dataclass(frozen=True)
class Placement:
    """Device and precision (dtype) on which a model and its dictionaries are placed."""

    device: torch.device
    dtype: torch.dtype
    why: str
    """Sentence for the user that gives the reason for this device and dtype."""


def choose_placement(device: str | None = None, dtype: str | None = None) -> Placement:
    """Choose the device (CUDA if available, else CPU) and the dtype (default float32) of the
    model's tensors.

    Raise InputError for a device that this machine does not have and for an unknown dtype.
    """
    precision = pick_by_name("dtype", dtype or "float32", DTYPES)
    if device is None:
        has_cuda = torch.cuda.is_available()
        chosen = "cuda" if has_cuda else "cpu"
        reason = "a CUDA device is here" if has_cuda else "there is no CUDA device here"
    else:
        chosen = device
        reason = "you asked for it"
    checked = _check_device(chosen)
    name = str(precision).removeprefix("torch.")
    why = f"Runs on {checked} in {name}, since {reason}."
    slower = measure_dtype_slowdown(checked, precision)
    if slower >= NOTABLE_SLOWDOWN:
        why += (
            f" A product of matrices in {name} takes {slower:.1f} times as long as in float32 on "
            "this processor: without --dtype it is faster and takes twice the memory."
        )
    return Placement(checked, precision, why)


@cache
def measure_dtype_slowdown(device: torch.device, dtype: torch.dtype) -> float:
    """Measure how many times longer a matrix product takes in this dtype than in float32 on the
    CPU.

    It is measured once, in about ten milliseconds: processors without bfloat16 units take five
    times as long. Return 1 on other devices and for float32.
    """
    if device.type != "cpu" or dtype == torch.float32:
        return 1.0
    return time_matrix_product(dtype) / time_matrix_product(torch.float32)


def time_matrix_product(dtype: torch.dtype, rounds: int = 7) -> float:
    """Return the shortest time, in seconds, of several products of a batch with a square matrix in
    a given dtype."""
    a, b = (
        torch.ones(128, SMALL_MODEL_WIDTH, dtype=dtype),
        torch.ones(SMALL_MODEL_WIDTH, SMALL_MODEL_WIDTH, dtype=dtype),
    )
    durations = []
    for _ in range(rounds):
        started = time.perf_counter()
        torch.matmul(a, b)
        durations.append(time.perf_counter() - started)
    return min(durations)


def read_device_memory() -> int | None:
    """Return the memory in bytes of the default CUDA device; None without one."""
    if not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory


def list_devices() -> list[str]:
    """List the device names that work on this machine: `cpu`, `cuda:0`, and so on."""
    return ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]


def _check_device(name: str) -> torch.device:
    available = list_devices()
    if name in available or (name == "cuda" and len(available) > 1):
        return torch.device(name)
    raise InputError(f"This machine has no device {name!r}. It has: {', '.join(available)}.")


def limit_cpu_threads(placement: Placement, d_model: int) -> None:
    """Limit torch to one CPU thread for a small model, unless the environment sets OMP_NUM_THREADS.

    Threads that wait for each other in tiny operators spin. With another process on the other core
    the demo's harvest took 285 s in two processes, the first of them with two threads, and 62 s in
    one process with one thread. `--processes` gives every process one thread.
    """
    if (
        placement.device.type == "cpu"
        and d_model < SMALL_MODEL_WIDTH
        and "OMP_NUM_THREADS" not in os.environ
    ):
        torch.set_num_threads(1)
