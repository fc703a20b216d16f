"""Jobs that explain and score a wide dictionary by an instant server, as commands start them."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import explainable
from benchmarks.children import ONE_THREAD, ROOT
from benchmarks.synthetic import DICTIONARY
from feature_store.jobs import Jobs
from feature_store.store import Store

CONCURRENCY = 64
EXPLAINER = "max-activating"
ABOUT = re.compile(r"About (\S.*?) calls? and (.*?) tokens? for")
FEW = 5
"""Features that are scored first, so that the estimate of the next job knows how tokens count."""


def measure(features: int, scored: int, folder: Path) -> dict[str, Any]:
    """Explain a tenth of the features, then all; score some, by a language model."""
    store = explainable.build(folder, features)
    command = [sys.executable, "-m", "benchmarks.instant_judge"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        base_url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        try:
            explain = [
                job(store, "explain", base_url, n, 0, "--explainer", EXPLAINER)
                for n in (features // 10, features)
            ]
            score = [
                job(store, "score", base_url, n, seed, "--judge", "openai")
                for seed, n in enumerate((FEW, scored))
            ]
        finally:
            server.kill()
    return {"explain": explain, "score": score}


def job(store: Store, kind: str, base_url: str, n: int, seed: int, *more: str) -> dict[str, Any]:
    """A command's job about the first `n` features: its pace, its memory, its estimate."""
    command = [
        sys.executable,
        "-m",
        "app.cli",
        kind,
        "--store",
        str(store.path),
        "--dictionary",
        DICTIONARY,
        "--features",
        f"0-{n - 1}",
        "--seed",
        str(seed),
        "--model",
        "m",
        "--base-url",
        base_url,
        "--concurrency",
        str(CONCURRENCY),
        "--json",
        *more,
    ]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | ONE_THREAD, stdout=out, stderr=said, text=True
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said.seek(0)
        text = said.read()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{text[-4000:]}")
        facts = json.loads(out.read())
    (row,) = facts["results"]
    done = Jobs(store.path).get(facts["job"])
    assert done.started and done.ended
    seconds = (done.ended - done.started).total_seconds()
    cpu_s = usage.ru_utime + usage.ru_stime
    return {
        "features": row["n"],
        "calls": row["calls"],
        "tokens": row["tokens"],
        "failed": row["failed"],
        "per_s": row["calls"] / seconds,
        "cpu_ms": cpu_s / max(row["calls"], 1) * 1000,
        "peak_mb": usage.ru_maxrss * 1.024 / 1000,
        "off": off(text, row),
    }


def off(said: str, row: dict[str, Any]) -> dict[str, float]:
    """How far the estimate was from what it came to, as a share."""
    match = ABOUT.search(said)
    assert match, said
    calls, tokens = (int(re.sub(r"\D", "", number)) for number in match.groups())
    return {"calls": abs(calls / row["calls"] - 1), "tokens": abs(tokens / row["tokens"] - 1)}


def main() -> None:
    """Write the facts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, required=True)
    parser.add_argument("--scored", type=int, required=True)
    parser.add_argument("--store", type=Path, help="Where the synthetic store is kept.")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        facts = measure(args.features, args.scored, args.store or Path(folder) / "store")
    args.out.write_text(json.dumps(facts), "utf-8")


if __name__ == "__main__":
    main()
