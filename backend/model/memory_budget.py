"""How much memory weights may take: sizes as people write them, and the default shares.

Two budgets hold in the process that serves pages and in every job: one for language models, one for
dictionaries. Both count bytes of weights. What a run computes on top of them (activations, the
attention cache) is bounded elsewhere.
"""

import os
import re
from pathlib import Path

from feature_store.errors import InputError

MODEL_MEMORY_VARIABLE = "SAEFARI_MODEL_MEMORY"
DICTIONARY_MEMORY_VARIABLE = "SAEFARI_DICTIONARY_MEMORY"
"""Environment variables: the budgets, as `parse_memory_size` reads them."""
MODEL_SHARE = 0.5
DICTIONARY_SHARE = 0.25
"""Shares of the machine's (or the device's) memory where no budget is given."""
SIZE_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SIZE_PATTERN = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([KMGT]?)(I?)B?", re.IGNORECASE)
SMALLEST_BUDGET = 10**6
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says how much memory a container may have (cgroup version 2, then 1)."""


def parse_memory_size(text: str) -> int:
    """Return the bytes of a size such as `64MB`, `1.5 GB`, `2GiB` or `800000000`.

    InputError for anything else, and for less than 1 MB.
    """
    found = SIZE_PATTERN.fullmatch(text.strip())
    if found is None or (found[3] and not found[2]):
        raise InputError(f"{text[:40]!r} is no size. Write for example 64MB, 1.5GB or 2GiB.")
    factor = SIZE_UNITS[found[2].upper()]
    if found[3]:
        factor = 1024 ** list(SIZE_UNITS).index(found[2].upper())
    size = int(float(found[1]) * factor)
    if size < SMALLEST_BUDGET:
        raise InputError(f"{text[:40]!r} is less than 1MB, the smallest size that works here.")
    return size


def format_memory_size(size: int) -> str:
    """Return bytes in decimal units and at most three digits, such as `64 MB` or `1.35 GB`."""
    value, units = float(max(size, 0)), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.3g} {units[0]}" if value < 999.5 else f"{value:.0f} {units[0]}"


def model_memory_budget(total: int | None = None) -> int:
    """Return the bytes that weights of models may take: the environment's, else half of `total`.

    `total` is the memory of the device that holds them; the machine's where it is not given.
    """
    return _read_budget(MODEL_MEMORY_VARIABLE, MODEL_SHARE, total)


def dictionary_memory_budget(total: int | None = None) -> int:
    """Return the bytes that dictionaries may take: the environment's, else a quarter of `total`."""
    return _read_budget(DICTIONARY_MEMORY_VARIABLE, DICTIONARY_SHARE, total)


def check_memory_budgets() -> None:
    """InputError where the environment gives a budget that is no size."""
    model_memory_budget(0)
    dictionary_memory_budget(0)


def _read_budget(variable: str, share: float, total: int | None) -> int:
    given = os.environ.get(variable, "")
    if given:
        try:
            return parse_memory_size(given)
        except InputError as error:
            raise InputError(f"The environment variable {variable}: {error}") from None
    return int((read_machine_memory() if total is None else total) * share)


def read_machine_memory() -> int:
    """Return the bytes of memory that this process can have: the machine's, or its container's."""
    import psutil

    found = psutil.virtual_memory().total
    for place in CGROUP_LIMITS:
        try:
            limit = Path(place).read_text().strip()
        except OSError:
            continue
        if limit.isdecimal():
            found = min(found, int(limit))
    return found
