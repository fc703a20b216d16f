"""Calls to an instant server, recorded as a job records them: how many a second, in what memory."""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autointerp.llm import CallLog, ChatMessage, ChatRequest, LlmServer, Reply, open_asker
from benchmarks.children import ROOT, resident_mb

CONCURRENCY = 64
WORKERS = 96
PROMPT = "word " * 800
"""About as long as a scorer's prompt of five contexts."""
DIGITS = {
    "type": "array",
    "items": {"type": "integer", "enum": [0, 1]},
    "minItems": 5,
    "maxItems": 5,
}
SCHEMA = {"type": "object", "properties": {"answers": DIGITS}, "required": ["answers"]}


async def calls(base_url: str, path: Path, n: int) -> dict[str, Any]:
    """Ask `n` different questions, from WORKERS tasks."""
    record_s: list[float] = []
    server = LlmServer("instant", base_url, concurrency=CONCURRENCY)
    with CallLog(path) as log:
        log.record = timed(log.record, record_s)  # type: ignore[method-assign] - to look at it
        async with open_asker(server, "m", log) as asker:

            async def worker(first: int) -> None:
                for i in range(first, n, WORKERS):
                    asked = ChatRequest((ChatMessage("user", f"{i} {PROMPT}"),), schema=SCHEMA)
                    assert isinstance(await asker.ask(asked), Reply)

            clock_s, cpu_s = time.perf_counter(), time.process_time()
            await asyncio.gather(*(worker(first) for first in range(WORKERS)))
            clock_s, cpu_s = time.perf_counter() - clock_s, time.process_time() - cpu_s
            cached = asker.cached
    record_s.sort()
    return {
        "calls": n,
        "cached": cached,
        "per_s": n / clock_s,
        "cpu_ms": cpu_s / n * 1000,
        "record_p99_ms": record_s[int(0.99 * len(record_s))] * 1000 if record_s else 0.0,
        "resident_mb": resident_mb(),
    }


def timed(record: Callable[[Any], None], took_s: list[float]) -> Any:
    """The same, noting how long the event loop was held by it."""

    def noted(row: Any) -> None:
        began = time.perf_counter()
        record(row)
        took_s.append(time.perf_counter() - began)

    return noted


def measure(n: int) -> list[dict[str, Any]]:
    """A few calls, ten times as many on top, and those once more from the record."""
    command = [sys.executable, "-m", "tests.openai_server"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdout
        base_url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        path = Path(folder) / "calls.duckdb"
        try:
            return [asyncio.run(calls(base_url, path, many)) for many in (n, 10 * n, 10 * n)]
        finally:
            server.kill()


def main() -> None:
    """Write the facts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.write_text(json.dumps(measure(args.n)), "utf-8")


if __name__ == "__main__":
    main()
