"""Where tensors live and in which precision, chosen once, with a sentence saying why."""

import os
import time
from dataclasses import dataclass
from functools import cache

import torch

from feature_store.errors import InputError, pick_by_name

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""float16 is left out: residual streams of several models overflow it. Weights that are stored in
float16 or bfloat16 are read and computed with in one of these."""
NOTABLE_SLOWDOWN = 1.5
"""A precision this many times slower than float32 is said to be so."""
SMALL_MODEL_WIDTH = 512
"""Width of a model below which several threads cost more than they bring."""


@dataclass(frozen=True)
class Placement:
    """Device and precision of a model and its dictionaries."""

    device: torch.device
    dtype: torch.dtype
    why: str
    """One sentence for the user."""


def choose_placement(device: str | None = None, dtype: str | None = None) -> Placement:
    """CUDA when there is one, else the CPU; float32 unless something else is asked for.

    InputError for a device that is not there and for an unknown precision.
    """
    precision = pick_by_name("dtype", dtype or "float32", DTYPES)
    if device is None:
        found = torch.cuda.is_available()
        chosen = "cuda" if found else "cpu"
        because = "a CUDA device is here" if found else "there is no CUDA device here"
    else:
        chosen = device
        because = "you asked for it"
    place = _check_device(chosen)
    name = str(precision).removeprefix("torch.")
    why = f"Runs on {place} in {name}, since {because}."
    slower = measure_dtype_slowdown(place, precision)
    if slower >= NOTABLE_SLOWDOWN:
        why += (
            f" A product of matrices in {name} takes {slower:.1f} times as long as in float32 on "
            "this processor: leave --dtype out to be faster, at twice the memory."
        )
    return Placement(place, precision, why)


@cache
def measure_dtype_slowdown(device: torch.device, dtype: torch.dtype) -> float:
    """How many times as long a product of matrices takes in this precision as in float32.

    Measured once on the CPU, in some ten milliseconds: processors without units for bfloat16 take
    five times as long. 1 elsewhere, and for float32.
    """
    if device.type != "cpu" or dtype == torch.float32:
        return 1.0
    return time_matrix_product(dtype) / time_matrix_product(torch.float32)


def time_matrix_product(dtype: torch.dtype, rounds: int = 7) -> float:
    """The shortest of a few products of a batch with a square matrix."""
    a, b = (
        torch.ones(128, SMALL_MODEL_WIDTH, dtype=dtype),
        torch.ones(SMALL_MODEL_WIDTH, SMALL_MODEL_WIDTH, dtype=dtype),
    )
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        torch.matmul(a, b)
        taken.append(time.perf_counter() - began)
    return min(taken)


def read_device_memory() -> int | None:
    """Return the bytes of memory of the CUDA device that is chosen by default; None without one."""
    if not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory


def list_devices() -> list[str]:
    """Every device name that works here."""
    return ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]


def _check_device(name: str) -> torch.device:
    works = list_devices()
    if name in works or (name == "cuda" and len(works) > 1):
        return torch.device(name)
    raise InputError(f"No device {name!r} here. There are: {', '.join(works)}.")


def limit_cpu_threads(placement: Placement, d_model: int) -> None:
    """On the CPU, let a small model run on one thread, unless OMP_NUM_THREADS says otherwise.

    Threads that wait for each other in tiny operators spin. With a neighbour on the other core the
    demo's harvest took 285 s in two processes, the first with two threads, and 62 s in one with
    one. `--processes` gives every process one thread.
    """
    if (
        placement.device.type == "cpu"
        and d_model < SMALL_MODEL_WIDTH
        and "OMP_NUM_THREADS" not in os.environ
    ):
        torch.set_num_threads(1)
