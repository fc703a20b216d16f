"""Jobs that explain and score a wide dictionary by an instant server, in this process."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.jobs import explaining, scoring
from app.jobs.asking import Asking
from app.jobs.explaining import Explaining
from app.jobs.scoring import Scoring
from autointerp.jobs.estimate import Estimate
from benchmarks import explainable
from benchmarks.children import ROOT, resident_mb
from benchmarks.synthetic import DICTIONARY, HARVEST
from feature_store.jobs import Jobs
from feature_store.store import Store
from feature_store.work import Work, take

CONCURRENCY = 64
EXPLAINER = "max-activating"


def measure(features: int, scored: int, folder: Path) -> dict[str, Any]:
    """Explain a tenth of the features, then all; score some, by a language model."""
    store = explainable.build(folder, features)
    command = [sys.executable, "-m", "benchmarks.instant_judge"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        base_url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        try:
            asking = Asking(base_url, "m", concurrency=CONCURRENCY)
            return {
                "explain": [
                    explained(store, f"0-{n - 1}", asking) for n in (features // 10, features)
                ],
                "score": [judged(store, n, seed, asking) for seed, n in enumerate((5, scored))],
            }
        finally:
            server.kill()


def explained(store: Store, features: str, asking: Asking) -> dict[str, Any]:
    """One job of explanations."""
    given = Explaining(HARVEST, DICTIONARY, features, (EXPLAINER,), asking)
    return timed(store, "explain", given.to_json(), explaining.do)


def judged(store: Store, n: int, seed: int, asking: Asking) -> dict[str, Any]:
    """One job of scores, with its estimate."""
    text = f"0-{n - 1}"
    given = Scoring(HARVEST, DICTIONARY, text, ("detection",), "openai", None, asking, seed)
    before = scoring.estimate(store, given)
    found = timed(store, "score", given.to_json(), scoring.do)
    return found | {"off": off(before, found), "learned": before.learned}


def off(before: Estimate, found: dict[str, Any]) -> dict[str, float]:
    """How far an estimate was from what it came to, as a share."""
    return {
        "calls": abs(before.calls / found["calls"] - 1),
        "tokens": abs((before.tokens_in + before.tokens_out) / found["tokens"] - 1),
    }


def timed(
    store: Store, kind: str, arguments: dict[str, Any], do: Callable[[Store, Work], dict[str, Any]]
) -> dict[str, Any]:
    """A job's pace and memory."""
    with take(Jobs(store.path).create(kind, arguments, "a benchmark")) as work:
        clock_s, cpu_s = time.perf_counter(), time.process_time()
        (row,) = do(store, work)["results"]
        clock_s, cpu_s = time.perf_counter() - clock_s, time.process_time() - cpu_s
        work.end("done")
    return {
        "features": row["n"], "calls": row["calls"], "tokens": row["tokens"],
        "failed": row["failed"], "per_s": row["calls"] / clock_s,
        "cpu_ms": cpu_s / max(row["calls"], 1) * 1000, "resident_mb": resident_mb(),
    }  # fmt: skip


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
