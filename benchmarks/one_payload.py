"""One feature's payload, read warm or cold, in this process. Started by the others."""

import argparse
import json
import os
import random
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

WARM_UP = 50


def main() -> None:
    """Read the arguments, measure, write the facts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--harvest", type=Path, required=True)
    parser.add_argument("--features", type=int, default=500)
    parser.add_argument("--cold", type=int, help="a seed: read one feature of an evicted file")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    facts = warm(args) if args.cold is None else cold(args)
    args.out.write_text(json.dumps(facts), "utf-8")


def cold(args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds from opening the file to the first payload; the libraries are loaded before."""
    from feature_store.harvest_reader import HarvestFile
    from feature_store.records import FeatureId

    evict(args.harvest)
    wall, cpu = time.perf_counter(), time.process_time()
    file = HarvestFile(args.harvest)
    (info,) = file.dictionaries.values()
    opened = time.perf_counter()
    index = random.Random(args.cold).randrange(info.d_sae)
    payload = file.payload(FeatureId(info.dictionary, index))
    return {
        "wall_ms": (time.perf_counter() - wall) * 1000,
        "cpu_ms": (time.process_time() - cpu) * 1000,
        "open_ms": (opened - wall) * 1000,
        "contexts": len(payload.contexts),
    }


def evict(path: Path) -> None:
    """Drop the file from the page cache, as far as the kernel follows the advice."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
        os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm(args: argparse.Namespace) -> dict[str, Any]:
    """CPU milliseconds over random features, and `select 1` beside each of them."""
    from feature_store.harvest_reader import HarvestFile, connect_read_only
    from feature_store.records import FeatureId

    file = HarvestFile(args.harvest)
    (info,) = file.dictionaries.values()
    floor = connect_read_only(args.harvest)
    drawn = random.Random(0)
    payloads, floors, contexts = [], [], []
    for number in range(args.features + WARM_UP):
        index = drawn.randrange(info.d_sae)
        cpu = time.process_time()
        payload = file.payload(FeatureId(info.dictionary, index))
        spent = (time.process_time() - cpu) * 1000
        cpu = time.process_time()
        with floor.cursor() as cursor:
            cursor.execute("SELECT 1").fetchall()
        if number >= WARM_UP:
            payloads.append(spent)
            floors.append((time.process_time() - cpu) * 1000)
            contexts.append(len(payload.contexts))
    return {
        "median_ms": median(payloads),
        "p95_ms": quantiles(payloads, n=20)[-1],
        "mean_ms": sum(payloads) / len(payloads),
        "select_1_ms": median(floors),
        "contexts": sum(contexts) / len(contexts),
        "features": len(payloads),
    }


if __name__ == "__main__":
    main()
