"""A sweep of 14 strengths × 8 seeds in one batch, against the same texts one by one."""

import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from backend.generation.prompt_tokenization import PromptTokens
from backend.generation.records import SamplingSettings
from backend.steering.strength_sweep import SweepRequest, run_sweep
from benchmarks.generation import PROMPT, Case, cases
from benchmarks.goals import Goal, table
from feature_store.records import FeatureId

STRENGTHS, SEEDS, NEW = 14, 8, 32
FEWER = 10
"""One-by-one texts that are timed; all cost alike."""


def measure(folder: Path, rounds: int, new: int = NEW) -> dict[str, Any]:
    """By model: cpu-seconds of the whole sweep, batched and (from a part of it) one by one."""
    torch.set_num_threads(1)
    return {case.name: measure_case(case, rounds, new) for case in cases(folder)}


def measure_case(case: Case, rounds: int, new: int) -> dict[str, float]:
    """Medians of rounds that alternate."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, case.lm.d_vocab, (PROMPT,), generator=generator).tolist()
    concept = FeatureId(next(iter(case.dictionaries)), 3)
    ask = SweepRequest(
        case.edits(1),
        tuple(0.1 * i for i in range(STRENGTHS)),
        (PromptTokens(tuple(ids)),),
        seeds=tuple(range(SEEDS)),
        sampling=SamplingSettings(max_new=new),
        concept=concept,
    )
    texts = SEEDS * (STRENGTHS + 1)
    few = replace(ask, strengths=ask.strengths[: FEWER - 1], seeds=(0,))
    batched, single = [], []
    for _ in range(rounds):
        batched.append(_spent(case, ask, None))
        single.append(_spent(case, few, 1) * texts / FEWER)
    return {
        "texts": texts,
        "tokens each": new,
        "batched, cpu-s": median(batched),
        "one by one, cpu-s": median(single),
        "times faster": median(b / a for a, b in zip(batched, single, strict=True)),
    }


def _spent(case: Case, ask: SweepRequest, rows: int | None) -> float:
    begun = time.process_time()
    run_sweep(case.lm, case.dictionaries, ask, bos=case.lm.bos, rows=rows)
    return time.process_time() - begun


def report(facts: dict[str, Any]) -> str:
    """One column a model."""
    names = list(next(iter(facts.values())))
    rows = [[name, *(one[name] for one in facts.values())] for name in names]
    return table("Sweep, texts read again and measured", ["", *facts], rows)


def goals(facts: dict[str, Any]) -> list[Goal]:
    """That a batch is worth it."""
    return [
        Goal(f"{name}, sweep batched over one by one", one["times faster"], 2.0, "×", True)
        for name, one in facts.items()
    ]
