"""Every benchmark but the peers: tables on stdout, figures in .bench/results.json.

CPU seconds on one thread throughout: on a shared machine the clock says little. Ratios compare what
ran side by side or in one run.
"""

import argparse
import json
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import (
    asking,
    browser,
    circuits,
    effects,
    encoding,
    generation,
    harvesting,
    judging,
    memory,
    payload,
    prompt,
    search,
    sweep,
    table,
)
from benchmarks.children import ROOT
from benchmarks.goals import Goal
from benchmarks.workload import FULL, Workload, build

PARTS = (
    "encode",
    "harvest",
    "payload",
    "memory",
    "search",
    "prompt",
    "table",
    "browser",
    "generation",
    "asking",
    "judging",
    "effects",
    "sweep",
    "circuits",
)


class Bench:
    """One run: what was measured, and how that compares with the goals."""

    def __init__(self, folder: Path, work: Workload, *, quick: bool) -> None:
        self.stores = folder / "stores"
        self.work = work
        self.quick = quick
        self.figures: dict[str, Any] = {}
        self.goals: dict[str, list[Goal]] = {name: [] for name in PARTS}

    def encode(self) -> str:
        """Forward and encode against the libraries."""
        facts = encoding.measure(self.work, 12 if self.quick else 60)
        self.figures["encode"] = facts
        self.goals["encode"] = encoding.goals(self.work, facts)
        return encoding.report(facts)

    def harvest(self) -> str:
        """Harvests by stages at every width, and of a real small model."""
        short = 30_000 if self.quick else 200_000
        tokens = dict.fromkeys(self.work.size.widths, short)
        results = [one.run(self.stores) for one in harvesting.cases(self.work, tokens)]
        self.figures["harvest"] = results
        self.goals["harvest"] = [*harvesting.goals(results), *map(memory.state_goal, results)]
        return harvesting.report(results)

    def payload(self) -> str:
        """One feature of the dictionary of middle width; needs its harvest."""
        width = self.work.size.widths[1]
        found = sorted((self.stores / f"{width}" / "harvests").glob("*.duckdb"))
        if not found:
            return f"\nNo harvest of {width} features: run the part `harvest` first."
        facts = payload.measure(found[0], 100 if self.quick else 500)
        self.figures["payload"] = facts
        self.goals["payload"] = payload.goals(facts)
        return payload.report(facts)

    def memory(self) -> str:
        """Ten times the tokens in the same memory."""
        short = 20_000 if self.quick else 200_000
        results = memory.measure(self.work, self.stores, short, 10 * short)
        self.figures["memory"] = results
        self.goals["memory"] = [*memory.growth_goals(results), memory.state_goal(results[1])]
        return memory.report(results)

    def search(self) -> str:
        """Searches over a wide dictionary."""
        facts = search.measure(4096 if self.quick else search.WIDE)
        self.figures["search"] = facts
        self.goals["search"] = search.goals(facts)
        return search.report(facts)

    def prompt(self) -> str:
        """The model's side of the Prompt page, on the demo."""
        facts = prompt.measure(5 if self.quick else 30)
        self.figures["prompt"] = facts
        self.goals["prompt"] = prompt.goals(facts)
        return prompt.report(facts)

    def table(self) -> str:
        """A page of the table of features, at 16k and at a million of them."""
        results = table.measure(self.stores / "tables")
        self.figures["table"] = results
        self.goals["table"] = table.goals(results)
        return table.report(results)

    def browser(self) -> str:
        """A feature page in Chromium; needs the harvest of middle width, and Playwright."""
        store = self.stores / f"{self.work.size.widths[1]}"
        if missing := browser.missing(store):
            return f"\n{missing}"
        facts = browser.measure(store, 4 if self.quick else 20)
        self.figures["browser"] = facts
        self.goals["browser"] = browser.goals(facts)
        return browser.report(facts)

    def generation(self) -> str:
        """Steered text beside Hugging Face's own generate."""
        facts = generation.measure(self.work.root, 2 if self.quick else 9)
        self.figures["generation"] = facts
        self.goals["generation"] = generation.goals(facts)
        return generation.report(facts)

    def sweep(self) -> str:
        """Strengths × seeds in one batch against one by one."""
        facts = sweep.measure(self.work.root, 1 if self.quick else 5)
        self.figures["sweep"] = facts
        self.goals["sweep"] = sweep.goals(facts)
        return sweep.report(facts)

    def asking(self) -> str:
        """Calls to an instant server, as a job makes them."""
        facts = asking.measure(100 if self.quick else 1000)
        self.figures["asking"] = facts
        self.goals["asking"] = asking.goals(facts)
        return asking.report(facts)

    def judging(self) -> str:
        """Jobs that explain and score a wide dictionary; a quarter of an hour at 100 000."""
        facts = judging.measure(*((2_000, 20) if self.quick else (100_000, 200)))
        self.figures["judging"] = facts
        self.goals["judging"] = judging.goals(facts)
        return judging.report(facts)

    def effects(self) -> str:
        """What features of the demo do, against controls; needs the demo's store."""
        store = ROOT / ".demo"
        if not (store / "harvests").is_dir():
            return "\nThe demo was not harvested: run `make demo` first."
        facts = effects.measure(store, quick=self.quick)
        self.figures["effects"] = facts
        self.goals["effects"] = effects.goals(facts)
        return effects.report(facts)

    def circuits(self) -> str:
        """Sparse feature circuits of the demo's tasks: agreement, sizes, cost; ¾ of an hour."""
        facts = circuits.measure(quick=self.quick)
        self.figures["circuits"] = facts
        self.goals["circuits"] = circuits.goals(facts)
        return circuits.report(facts)

    def save(self, path: Path, part: str) -> None:
        """One part's figures and goals, with what they were measured on; other parts stay."""
        known = json.loads(path.read_text("utf-8")) if path.exists() else {}
        known[part] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "quick": self.quick,
            "machine": machine(),
            "figures": self.figures.get(part),
            "goals": [goal.plain() for goal in self.goals[part]],
        }
        path.write_text(json.dumps(known, indent=1), "utf-8")


def machine() -> dict[str, Any]:
    """What it ran on."""
    import torch

    return {
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "sae-lens", "duckdb")},
    }


def main() -> None:
    """Build the workload, run the parts, print tables and goals as they come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few tokens: does it run at all?")
    parser.add_argument("--only", choices=PARTS)
    args = parser.parse_args()
    folder = ROOT / ".bench"
    print("Building the workload in .bench/ where it is missing…", flush=True)
    bench = Bench(folder, build(folder / "workload", FULL), quick=args.quick)
    for name in [args.only] if args.only else PARTS:
        part: Callable[[], str] = getattr(bench, name)
        print(part(), flush=True)
        bench.save(folder / "results.json", name)
    print("\nGoals", *(goal for found in bench.goals.values() for goal in found), sep="\n")
    if args.quick:
        print("\nWith --quick there are too few tokens for these goals: only a full run judges.")


if __name__ == "__main__":
    main()
