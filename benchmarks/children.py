"""Measurements in processes of their own: one thread, memory counted from nothing."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "PYTHONUTF8": "1",
}
ROOT = Path(__file__).resolve().parents[1]


def measured(module: str, *arguments: object, python: str = sys.executable) -> dict[str, Any]:
    """Run a module or script that writes its facts as JSON to the path behind `--out`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "facts.json"
        what = [module] if module.endswith(".py") else ["-m", module]
        command = [python, *what, *map(str, arguments), "--out", str(out)]
        done = subprocess.run(
            command, env=os.environ | ONE_THREAD, cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode or not out.exists():
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
        return json.loads(out.read_text("utf-8"))


def peak_mb() -> float:
    """The largest resident memory of this process so far, in MB (10⁶ bytes)."""
    return status_kb("VmHWM") / 1000 * 1.024


def resident_mb() -> float:
    """Resident memory now, in MB."""
    return status_kb("VmRSS") / 1000 * 1.024


def status_kb(name: str) -> int:
    """A line of the kernel's account of this process, in KiB. getrusage's peak would not do: a
    child inherits its parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no line {name}")
