"""Does Saefari give on a device what it gives on the CPU, and how fast? One script, five minutes.

    python -m benchmarks.gpu_check --data DIR --out DIR

DIR holds Hugging Face model folders, dictionary folders in sae-lens' format and, under `text/`, a
corpus. Every step has a time limit; the script goes on after a step that fails. One line for the
machine and one for each step go into `OUT/gpu_check.jsonl`, and with tracebacks into
`OUT/gpu_check.log`.
"""

import argparse
import json
import logging
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from benchmarks.gpu_bench import Bench, NotHere
from benchmarks.gpu_steps import STEPS

log = logging.getLogger("gpu_check")
WHOLE_S = 290.0
"""How long all steps together may take."""
LEAST_S = 5.0
"""A step is not begun with less time than this."""
GRACE_S = 15.0
"""How long a step that does not hear its alarm may go on before the process is ended."""


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    data: Path
    out: Path
    device: torch.device
    tiny: bool
    only: tuple[str, ...]


class StepTimeoutError(Exception):
    """A step took longer than it may."""


class Report:
    """The lines that are written as they become known."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self.failed = 0

    def write(self, **fields: Any) -> None:
        """One JSON line, on disk before the call returns."""
        line = json.dumps(fields, allow_nan=False)
        self._file.write(line + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.failed += fields.get("status") in ("failed", "timeout")
        log.info("%s", line)


def main(arguments: list[str] | None = None) -> int:
    """Run every step; 0 where all passed or were not possible here."""
    options = parsed(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    log.handlers = [
        logging.StreamHandler(sys.stdout),
        logging.FileHandler(options.out / "gpu_check.log", "w", encoding="utf-8"),
    ]
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.getLogger("transformers").setLevel(logging.ERROR)
    report = Report(options.out / "gpu_check.jsonl")
    report.write(step="machine", **machine(options.device))
    bench = Bench(options.data, options.out, options.device, options.tiny)
    ends = time.monotonic() + WHOLE_S
    for step, limit in STEPS.items():
        if options.only and step.__name__ not in options.only:
            continue
        left = ends - time.monotonic()
        if left < LEAST_S:
            report.write(step=step.__name__, status="not run", error="The time was up.")
            continue
        run_step(step, min(limit, left), bench, report)
    return 1 if report.failed else 0


def parsed(arguments: list[str] | None) -> Options:
    """The command line; the device defaults to this machine's accelerator, else the CPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", help="such as cuda:0; by default what there is")
    parser.add_argument("--tiny", action="store_true", help="a smoke run: few tokens, small shapes")
    parser.add_argument(
        "--only", action="append", default=[], help="a step's name; may be repeated"
    )
    args = parser.parse_args(arguments)
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = torch.device(args.device or found or "cpu")
    if device.type != "cpu" and device.index is None:
        device = torch.device(device.type, 0)
    return Options(args.data, args.out, device, args.tiny, tuple(args.only))


def machine(device: torch.device) -> dict[str, Any]:
    """Device, driver and versions."""
    facts: dict[str, Any] = {
        "device": str(device),
        "name": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "transformer_lens": version("transformer-lens"),
        "cpu_cores": os.cpu_count(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "name": properties.name,
            "memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
            "driver": driver_version(),
            "capability": f"{properties.major}.{properties.minor}",
        }
    return facts


def driver_version() -> str | None:
    """The first line of what NVIDIA's kernel module says of itself; None where it says nothing."""
    path = Path("/proc/driver/nvidia/version")
    return path.read_text("utf-8").splitlines()[0] if path.is_file() else None


def run_step(
    step: Callable[[Bench], dict[str, Any]], limit: float, bench: Bench, report: Report
) -> None:
    """One step, its outcome written whatever it was."""
    began = time.monotonic()
    outcome: dict[str, Any] = {"step": step.__name__, "limit_s": round(limit, 1)}

    def finished(status: str, **fields: Any) -> None:
        seconds = round(time.monotonic() - began, 3)
        report.write(**outcome, status=status, seconds=seconds, **fields)

    def end_process() -> None:
        finished("timeout", error="The step did not end when it was told to; the rest did not run.")
        os._exit(1)

    watchdog = threading.Timer(limit + GRACE_S, end_process)
    watchdog.daemon = True
    watchdog.start()
    try:
        with alarm(limit):
            figures = step(bench)
            bench.synchronize()
        wrong = figures.pop("wrong", [])
        if wrong:
            finished("failed", figures=figures, error="; ".join(wrong))
        else:
            finished("passed", figures=figures)
    except NotHere as reason:
        finished("not here", error=str(reason))
    except StepTimeoutError:
        finished("timeout", error=f"It took more than {limit:g} s.")
    except Exception as error:
        log.info("%s", traceback.format_exc())
        finished("failed", error=f"{type(error).__name__}: {error}"[:2000])
    finally:
        watchdog.cancel()
        bench.free()


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """StepTimeoutError in the main thread after so long, where the system has alarms."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise StepTimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    raise SystemExit(main())
