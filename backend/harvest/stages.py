"""Where a harvest's time goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

MODEL_STAGES = ("forward", "encode")
"""The work that no harvest can do without; all other stages are overhead."""
ONCE_STAGES = ("model", "plan", "self-check", "logits", "neighbours")
"""Work once per model, corpus or dictionary, whatever the number of tokens."""


class Stages:
    """Seconds by stage: CPU seconds of the process, and seconds by the clock."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self.wall_s: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the block's time under `name`."""
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            self.cpu_s[name] = self.cpu_s.get(name, 0.0) + time.process_time() - cpu
            self.wall_s[name] = self.wall_s.get(name, 0.0) + time.perf_counter() - wall

    def overhead(self) -> float:
        """Total ÷ (forward + encode) in CPU seconds, work done once left out."""
        model = sum(self.cpu_s.get(name, 0.0) for name in MODEL_STAGES)
        streamed = sum(s for name, s in self.cpu_s.items() if name not in ONCE_STAGES)
        return streamed / model if model else float("nan")
