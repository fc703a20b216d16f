"""Stage timings: how much CPU time and wall-clock time each stage of a harvest takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageTimings:
    """Seconds spent per stage of a harvest: CPU time of the process, and wall-clock time."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self.wall_s: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time spent inside this context to the stage `name`."""
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            self.cpu_s[name] = self.cpu_s.get(name, 0.0) + time.process_time() - cpu
            self.wall_s[name] = self.wall_s.get(name, 0.0) + time.perf_counter() - wall
