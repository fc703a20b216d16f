"""SAEDashboard beside Saefari: the same model, dictionary and tokens, CPU seconds on one thread.

    python -m benchmarks.peers --peer-python .bench/peers/bin/python

Saefari harvests the whole dictionary. SAEDashboard makes a few batches of 128 features; what all of
them would take is extrapolated, first batch (with its forward passes) plus the mean of the others.
"""

import argparse
import json
import shutil
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.children import ROOT, measured
from benchmarks.goals import Goal, table
from benchmarks.harvesting import Case
from benchmarks.workload import FULL, build
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId

WIDTH = 4096
GOAL = 20.0
SIDE = "benchmarks/sae_dashboard_side.py"


def main() -> None:
    """Run both and print the ratio; the figures go to .bench/peers.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", required=True, help="Python with SAEDashboard installed")
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--batches", type=int, default=3, help="batches of 128 features")
    args = parser.parse_args()
    folder = ROOT / ".bench"
    facts = compare(folder, args.peer_python, args.tokens, args.batches)
    print(report(facts))
    print(goal(facts))
    (folder / "peers.json").write_text(json.dumps(facts, indent=1), "utf-8")


def compare(folder: Path, peer_python: str, tokens: int, batches: int) -> dict[str, Any]:
    """Harvest, hand the very sequences over, and run SAEDashboard on them."""
    work = build(folder / "workload")
    ours = Case(
        "peers",
        work.model,
        work.dictionary(WIDTH),
        "stdlib",
        tokens,
        1.1,
        pack=True,
        context=FULL.context,
    ).run(folder / "stores")
    harvest = Path(ours["path"])
    scratch = folder / "peer-work"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    rows = full_rows(harvest)
    np.save(scratch / "tokens.npy", rows)
    theirs = measured(
        SIDE,
        "--model",
        work.model,
        "--dictionary",
        work.dictionary(WIDTH),
        "--tokens",
        scratch / "tokens.npy",
        "--batches",
        batches,
        "--work",
        scratch,
        python=str(Path(peer_python).absolute()),
    )
    shutil.rmtree(scratch)
    return {"ours": ours, "theirs": theirs, "agreement": agreement(harvest, theirs["first"])}


def full_rows(harvest: Path) -> np.ndarray:
    """The fed sequences of full length, which are nearly all of a packed plan: [sequence pos]."""
    file = HarvestFile(harvest)
    sequences = file.sequences
    size = file.record.context_size
    rows = [sequences.tokens(i) for i in range(len(sequences)) if len(sequences.tokens(i)) == size]
    file.close()
    return np.stack(rows).astype(np.int32)


def agreement(harvest: Path, first: dict[str, dict[str, float]]) -> dict[str, float]:
    """Whether both saw the same features: largest activations and densities of the first batch."""
    file = HarvestFile(harvest)
    (name,) = file.dictionaries
    facts = [file.facts(FeatureId(name, int(index))) for index in first]
    file.close()
    pairs = [
        (fact.max_act or 0.0, one["largest"])
        for fact, one in zip(facts, first.values(), strict=True)
    ]
    density = [fact.density for fact in facts]
    other = [one["density"] for one in first.values()]
    return {
        "features": len(pairs),
        "same_largest": sum(abs(a - b) <= 0.01 * max(a, 0.1) for a, b in pairs),
        "density_correlation": float(np.corrcoef(density, other)[0, 1]),
    }


def extrapolated(theirs: dict[str, Any], d_sae: int) -> float:
    """CPU seconds that all features would take."""
    first, *later = theirs["cpu_s"]
    return first + (d_sae / theirs["features"] - 1) * mean(later or [first])


def harvest_s(ours: dict[str, Any]) -> float:
    """CPU seconds of our whole harvest: work done once counts too, loading models does not."""
    return sum(s for name, s in ours["cpu_s"].items() if name != "model")


def ratio(facts: dict[str, Any]) -> float:
    """Their CPU time for the whole dictionary ÷ ours."""
    return extrapolated(facts["theirs"], facts["ours"]["d_sae"]) / harvest_s(facts["ours"])


def report(facts: dict[str, Any]) -> str:
    """Both sides."""
    ours, theirs, same = facts["ours"], facts["theirs"], facts["agreement"]
    d_sae, batches = ours["d_sae"], len(theirs["cpu_s"])
    rows = [
        ["tokens fed", ours["tokens"], theirs["tokens"]],
        ["features made", d_sae, batches * theirs["features"]],
        ["first batch of 128, cpu-s", "", theirs["cpu_s"][0]],
        ["later batches, cpu-s each", "", mean(theirs["cpu_s"][1:] or theirs["cpu_s"])],
        [f"all {d_sae:,} features, cpu-s", harvest_s(ours), extrapolated(theirs, d_sae)],
        [
            "cpu-ms a feature",
            1000 * harvest_s(ours) / d_sae,
            1000 * extrapolated(theirs, d_sae) / d_sae,
        ],
        ["peak memory, MB", ours["peak_mb"], theirs["peak_mb"]],
        [
            "kB a feature",
            ours["file_bytes"] / d_sae / 1000,
            sum(theirs["bytes"]) / batches / theirs["features"] / 1000,
        ],
    ]
    note = (
        f"SAEDashboard's figure for all features is extrapolated from {batches} batches.\n"
        f"Of {same['features']} features, {same['same_largest']} have the same largest activation "
        f"on both sides; densities correlate {same['density_correlation']:.3f}."
    )
    title = "The whole dictionary, CPU seconds on one thread"
    return table(title, ["", "Saefari", "SAEDashboard"], rows) + "\n" + note


def goal(facts: dict[str, Any]) -> Goal:
    """The ratio's bound."""
    return Goal(
        "whole dictionary, SAEDashboard ÷ Saefari",
        ratio(facts),
        GOAL,
        "×",
        at_least=True,
        note="extrapolated",
    )


if __name__ == "__main__":
    main()
