"""Report on the demo: measures its model and dictionaries, saves the figures as JSON, and writes
the tables of docs/demo.md."""

import logging
from dataclasses import asdict
from pathlib import Path

from backend.demo import WEIGHTS, task_prompts
from backend.demo.activations import load_demo_model
from backend.demo.demo_evaluation import (
    DEAD_TOKENS,
    dead_feature_shares,
    measure_accuracy,
    measure_quality,
    sample_batches,
)
from backend.demo.dictionary_plans import DICTIONARY_PLANS
from backend.demo.task_generators import TASKS
from feature_store.strict_json import dump_json

log = logging.getLogger(__name__)

PROMPTS_PER_TASK = 300
FIGURES_MARK = "<!-- figures: written by `make demo-train` -->"

Figures = dict[str, dict[str, dict[str, float]]]


def write_report(page: Path) -> None:
    """Measure the demo, write `weights/figures.json`, and replace the tables after the mark in
    `page` where that file exists."""
    figures = _measure_figures()
    (WEIGHTS / "figures.json").write_text(dump_json(figures, indent=1) + "\n")
    if page.is_file():
        page.write_text(
            page.read_text().partition(FIGURES_MARK)[0]
            + FIGURES_MARK
            + "\n\n"
            + format_tables(figures)
        )


def _measure_figures() -> Figures:
    """Measure the accuracy of the demo's model on every task and the quality of every
    dictionary."""
    lm = load_demo_model()
    tasks = {}
    for task in TASKS:
        prompts = list(task_prompts(task, "held_out", PROMPTS_PER_TASK, seed=9))
        tasks[task] = _round_figures(asdict(measure_accuracy(lm.bare, lm.tokenizer, prompts)))
        log.info("%s: %s", task, tasks[task])
    plans = [plan for each in DICTIONARY_PLANS.values() for plan in each]
    dead = dead_feature_shares(lm, plans)
    stories, code = list(sample_batches(generated=True)), list(sample_batches(generated=False))
    dictionaries = {}
    for plan in sorted(plans, key=lambda plan: plan.name.split("-")[0]):
        row = asdict(measure_quality(lm, plan, stories)) | {"dead": dead[plan.name]}
        row |= {
            f"stdlib_{key}": value for key, value in asdict(measure_quality(lm, plan, code)).items()
        }
        dictionaries[plan.name] = _round_figures(row)
        log.info("%s: %s", plan.name, dictionaries[plan.name])
    return {"tasks": tasks, "dictionaries": dictionaries}


def _round_figures(row: dict[str, float]) -> dict[str, float]:
    """Round the demo's figures for one task or one dictionary to four decimal places."""
    return {key: round(value, 4) for key, value in row.items()}


def format_tables(figures: Figures) -> str:
    """Format the demo's figures as Markdown tables of tasks and dictionaries."""
    lines = [
        f"Tasks, {PROMPTS_PER_TASK} prompts each from templates held out of training. *Pair*: "
        f"the right",
        "answer is more probable than the tempting wrong one (chance 50 %). *Top*: it is the most",
        "probable of all tokens; in greater_than many years are right, so there it means little.",
        "",
        "| task | pair | top |",
        "|---|---|---|",
    ]
    for task, row in figures["tasks"].items():
        lines.append(f"| {task} | {row['pair']:.1%} | {row['top']:.1%} |")
    lines += [
        "",
        "Dictionaries, on fresh generated stories (BOS left out), and in brackets on the standard",
        f"library. *Dead*: no activation in {DEAD_TOKENS:,} tokens of both. *Recovered*:",
        "compared with mean ablation, the mean over these documents.",
        "",
        "| dictionary | explained variance | L0 | ΔCE, nats | recovered | dead |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in figures["dictionaries"].items():
        cells = [
            f"{row[key]:{spec}} ({row[f'stdlib_{key}']:{spec}})"
            for key, spec in (
                ("explained_variance", ".3f"),
                ("l0", ".1f"),
                ("delta_ce", ".3f"),
                ("recovered_mean", ".3f"),
            )
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['dead']:.1%} |")
    return "\n".join(lines) + "\n"
