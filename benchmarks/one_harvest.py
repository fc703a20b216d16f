"""One harvest in this process; its stages, memory and results as JSON. Started by the others."""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.children import peak_mb, resident_mb


def main() -> None:
    """Read the arguments, harvest, write the facts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--dictionary", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--pack", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    shutil.rmtree(args.store, ignore_errors=True)
    args.out.write_text(json.dumps(harvest(args)), "utf-8")


def harvest(args: argparse.Namespace) -> dict[str, Any]:
    """Do it, looking at memory whenever the harvest says how far it is."""
    import torch

    from backend.harvest.harvest_plan import HarvestPlan
    from backend.harvest.run import HarvestRequest, HarvestRun
    from backend.model.device import choose_placement

    torch.set_num_threads(1)
    plan = HarvestPlan(tokens=args.tokens, context_size=args.context, pack=args.pack)
    work = HarvestRun(
        HarvestRequest(
            args.model, [args.dictionary], [args.corpus], args.store, plan, choose_placement("cpu")
        )
    )
    before_mb, stage_peak_mb = 0.0, {}
    began = time.perf_counter()
    for progress in work.run():
        if progress.stage == "harvest" and not before_mb:
            before_mb = resident_mb()
        stage_peak_mb[progress.stage.split(" of ")[0]] = peak_mb()
    path = args.store / "harvests" / f"{work.id}.duckdb"
    return {
        "path": str(path.resolve()),
        "file_bytes": path.stat().st_size,
        "tokens": work.n_tokens,
        "nonzero": work.n_nonzero,
        "cpu_s": work.stages.cpu_s,
        "stage_wall_s": work.stages.wall_s,
        "wall_s": time.perf_counter() - began,
        "state_bytes": work.state_bytes,
        "resident_before_mb": before_mb,
        "peak_mb": peak_mb(),
        "peak_by_stage_mb": stage_peak_mb,
        "warnings": work.warnings,
        **dictionary_facts(path),
    }


def dictionary_facts(path: Path) -> dict[str, Any]:
    """What the published file says of its dictionary."""
    from feature_store.harvest_reader import HarvestFile

    file = HarvestFile(path)
    (info,) = file.dictionaries.values()
    file.close()
    return {"d_sae": info.d_sae, "dead": info.n_dead, "mean_active": info.mean_active}


if __name__ == "__main__":
    main()
