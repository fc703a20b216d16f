"""Harvests by stages: what is spent besides the model and the encoder."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.children import measured
from benchmarks.goals import Goal, table
from benchmarks.workload import Workload

SHOWN = (
    "forward",
    "encode",
    "feed",
    "samples",
    "co-activation",
    "sort",
    "statistics",
    "top",
    "range",
    "checkpoint",
    "merge",
    "write",
    "model",
    "plan",
    "self-check",
    "logits",
    "neighbours",
)
AT_THE_END = ("merge", "write")
MODEL_STAGES = ("forward", "encode")
"""The work that no harvest can do without; all other stages are overhead."""
ONCE_STAGES = ("model", "plan", "self-check", "logits", "neighbours")
"""Work once per model, corpus or dictionary, whatever the number of tokens."""


@dataclass(frozen=True)
class Case:
    """One harvest to measure."""

    name: str
    model: Path
    dictionary: Path
    corpus: str
    tokens: int
    bound: float
    """Goal for total ÷ (forward + encode)."""
    pack: bool = False
    context: int = 128

    def run(self, stores: Path) -> dict[str, Any]:
        """Harvest in a process of its own, into a new store."""
        pack = ["--pack"] if self.pack else []
        facts = measured(
            "benchmarks.one_harvest",
            "--model",
            self.model,
            "--dictionary",
            self.dictionary,
            "--corpus",
            self.corpus,
            "--store",
            stores / self.name,
            "--tokens",
            self.tokens,
            "--context",
            self.context,
            *pack,
        )
        return facts | {"name": self.name, "bound": self.bound} | derived(facts)


def cases(work: Workload, tokens: dict[int, int]) -> list[Case]:
    """The workload at each width, and the real small model where there is one."""
    found = [
        Case(
            f"{width}",
            work.model,
            work.dictionary(width),
            "stdlib",
            tokens[width],
            1.10 if width <= 16_384 else 1.15,
            context=work.size.context,
        )
        for width in work.size.widths
    ]
    if folder := os.environ.get("SAEFARI_TEST_DATA"):
        real = Path(folder)
        sae = real / "sae-stories3m-resid3-topk"
        text = str(real / "text" / "tinystories_train_part.jsonl")
        found.append(Case("stories3m", real / "stories3m", sae, text, min(tokens.values()), 1.15))
    return found


def derived(facts: dict[str, Any]) -> dict[str, float]:
    """Ratios and speeds from a harvest's stages."""
    cpu: dict[str, float] = facts["cpu_s"]
    wall: dict[str, float] = facts["stage_wall_s"]
    model = sum(cpu[name] for name in MODEL_STAGES)
    streamed = sum(s for name, s in cpu.items() if name not in ONCE_STAGES)
    ends = sum(cpu.get(name, 0.0) for name in AT_THE_END)
    besides = streamed - model - cpu.get("co-activation", 0.0)
    clock = sum(s for name, s in wall.items() if name not in ONCE_STAGES)
    return {
        "model_s": model,
        "streamed_s": streamed,
        "once_s": sum(cpu.get(name, 0.0) for name in ONCE_STAGES),
        "ratio": streamed / model,
        "loop_ratio": (streamed - ends) / model,
        "us_per_nonzero": (besides - ends) / facts["nonzero"] * 1e6,
        "us_per_nonzero_with_write": besides / facts["nonzero"] * 1e6,
        "tokens_per_cpu_s": facts["tokens"] / streamed,
        "tokens_per_s": facts["tokens"] / clock,
    }


def report(results: list[dict[str, Any]]) -> str:
    """Stages of each harvest side by side, then what follows from them."""
    names = [one["name"] for one in results]
    stages = [[name, *(one["cpu_s"].get(name, 0.0) for one in results)] for name in SHOWN]
    facts = [
        ["tokens", *(one["tokens"] for one in results)],
        ["features", *(one["d_sae"] for one in results)],
        ["alive, %", *(100 * (1 - one["dead"] / one["d_sae"]) for one in results)],
        ["active features a token", *(one["mean_active"] for one in results)],
        ["non-zero activations", *(one["nonzero"] for one in results)],
        ["forward + encode, cpu-s", *(one["model_s"] for one in results)],
        ["all but work done once", *(one["streamed_s"] for one in results)],
        ["÷ (forward + encode)", *(one["ratio"] for one in results)],
        ["… before merge and write", *(one["loop_ratio"] for one in results)],
        ["done once, cpu-s", *(one["once_s"] for one in results)],
        ["cpu-µs a non-zero, loop", *(one["us_per_nonzero"] for one in results)],
        ["… with merge and write", *(one["us_per_nonzero_with_write"] for one in results)],
        ["tokens a cpu-s", *(one["tokens_per_cpu_s"] for one in results)],
        ["tokens a second", *(one["tokens_per_s"] for one in results)],
        ["peak memory, MB", *(one["peak_mb"] for one in results)],
        ["file, kB a feature", *(one["file_bytes"] / one["d_sae"] / 1000 for one in results)],
    ]
    title = "Harvest by stages, cpu-seconds (co-activation left out of the µs a non-zero)"
    return table(title, ["stage", *names], stages) + table("", ["", *names], facts)


def goals(results: list[dict[str, Any]]) -> list[Goal]:
    """Overhead and cost of a non-zero activation, for each harvest."""
    found = []
    for one in results:
        name = f"harvest {one['name']}"
        note = f"{one['tokens']:,} tokens"
        found.append(
            Goal(f"{name}, total ÷ (forward + encode)", one["ratio"], one["bound"], "×", note=note)
        )
        found.append(Goal(f"{name}, loop per non-zero", one["us_per_nonzero"], 0.3, " cpu-µs"))
    return found
