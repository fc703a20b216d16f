"""Memory budgets of model and dictionary weights: parsing and formatting of sizes, and the default
shares of memory.

Two budgets hold in the process that serves pages and in every job: one for language models, one for
dictionaries. Both count bytes of weights. What a run computes in addition (activations, the
attention cache) is limited elsewhere.
"""

import os
import re
from pathlib import Path

from feature_store.errors import InputError

MODEL_MEMORY_VARIABLE = "SAEFARI_MODEL_MEMORY"
DICTIONARY_MEMORY_VARIABLE = "SAEFARI_DICTIONARY_MEMORY"
"""Environment variable with the memory budget of dictionaries (`SAEFARI_MODEL_MEMORY`: of models),
as `parse_memory_size` reads it."""
MODEL_SHARE = 0.5
DICTIONARY_SHARE = 0.25
"""Share of the machine's (or the device's) memory that is the budget of dictionaries when none is
given; of models MODEL_SHARE."""
SIZE_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SIZE_PATTERN = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([KMGT]?)(I?)B?", re.IGNORECASE)
SMALLEST_BUDGET = 10**6
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files in which Linux states the memory limit of a container (cgroup version 2, then 1)."""


def parse_memory_size(text: str) -> int:
    """Parse a memory size such as `64MB`, `1.5 GB`, `2GiB` or `800000000`, and return it in bytes.

    Raise InputError for anything else, and for less than 1 MB.
    """
    match = SIZE_PATTERN.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        raise InputError(f"{text[:40]!r} is not a size. Write for example 64MB, 1.5GB or 2GiB.")
    factor = SIZE_UNITS[match[2].upper()]
    if match[3]:
        factor = 1024 ** list(SIZE_UNITS).index(match[2].upper())
    size = int(float(match[1]) * factor)
    if size < SMALLEST_BUDGET:
        raise InputError(f"{text[:40]!r} is less than 1MB, the smallest size allowed.")
    return size


def format_memory_size(size: int) -> str:
    """Format a memory size in decimal units with at most three digits, such as `64 MB` or `1.35
    GB`."""
    value, units = float(max(size, 0)), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.3g} {units[0]}" if value < 999.5 else f"{value:.0f} {units[0]}"


def model_memory_budget(total: int | None = None) -> int:
    """Return the memory budget of model weights in bytes: the environment variable's value, else
    half of `total`.

    `total` is the memory of the device that holds them; by default the machine's.
    """
    return _read_budget(MODEL_MEMORY_VARIABLE, MODEL_SHARE, total)


def dictionary_memory_budget(total: int | None = None) -> int:
    """Return the memory budget of dictionaries in bytes: the environment variable's value, else a
    quarter of `total`."""
    return _read_budget(DICTIONARY_MEMORY_VARIABLE, DICTIONARY_SHARE, total)


def check_memory_budgets() -> None:
    """Raise InputError when an environment variable gives a memory budget that is not a size."""
    model_memory_budget(0)
    dictionary_memory_budget(0)


def _read_budget(variable: str, share: float, total: int | None) -> int:
    setting = os.environ.get(variable, "")
    if setting:
        try:
            return parse_memory_size(setting)
        except InputError as error:
            raise InputError(f"The environment variable {variable}: {error}") from None
    return int((read_machine_memory() if total is None else total) * share)


def read_machine_memory() -> int:
    """Return the memory in bytes that this process can use: the machine's, or its container's
    limit."""
    import psutil

    memory = psutil.virtual_memory().total
    for path in CGROUP_LIMITS:
        try:
            limit = Path(path).read_text().strip()
        except OSError:
            continue
        if limit.isdecimal():
            memory = min(memory, int(limit))
    return memory
