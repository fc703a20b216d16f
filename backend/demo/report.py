"""The evaluate stage: measure, keep the figures as data, and write the tables of docs/demo.md."""

import logging
from dataclasses import asdict
from pathlib import Path

from backend.demo import WEIGHTS, task_prompts
from backend.demo.activations import load_lm
from backend.demo.evaluate import DEAD_TOKENS, accuracy, dead_share, quality, sample
from backend.demo.plan import PLANS
from backend.demo.tasks import TASKS
from feature_store.strict_json import dump_json

log = logging.getLogger(__name__)

PROMPTS = 300
MARK = "<!-- figures: written by `make demo-train` -->"

Figures = dict[str, dict[str, dict[str, float]]]


def measure(page: Path) -> None:
    """Write `weights/figures.json`, and the tables after the mark in `page` where it exists."""
    figures = _figures()
    (WEIGHTS / "figures.json").write_text(dump_json(figures, indent=1) + "\n")
    if page.is_file():
        page.write_text(page.read_text().partition(MARK)[0] + MARK + "\n\n" + tables(figures))


def _figures() -> Figures:
    lm = load_lm()
    tasks = {}
    for task in TASKS:
        prompts = list(task_prompts(task, "held_out", PROMPTS, seed=9))
        tasks[task] = _rounded(asdict(accuracy(lm.bare, lm.tokenizer, prompts)))
        log.info("%s: %s", task, tasks[task])
    plans = [plan for each in PLANS.values() for plan in each]
    dead = dead_share(lm, plans)
    stories, code = list(sample(generated=True)), list(sample(generated=False))
    dictionaries = {}
    for plan in sorted(plans, key=lambda plan: plan.name.split("-")[0]):
        row = asdict(quality(lm, plan, stories)) | {"dead": dead[plan.name]}
        row |= {f"stdlib_{key}": value for key, value in asdict(quality(lm, plan, code)).items()}
        dictionaries[plan.name] = _rounded(row)
        log.info("%s: %s", plan.name, dictionaries[plan.name])
    return {"tasks": tasks, "dictionaries": dictionaries}


def _rounded(row: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in row.items()}


def tables(figures: Figures) -> str:
    """The figures as Markdown."""
    lines = [
        f"Tasks, {PROMPTS} prompts each from templates held out of training. *Pair*: the right",
        "answer is more probable than the tempting wrong one (chance 50 %). *Top*: it is the most",
        "probable of all tokens; in greater_than many years are right, so there it says little.",
        "",
        "| task | pair | top |",
        "|---|---|---|",
    ]
    for task, row in figures["tasks"].items():
        lines.append(f"| {task} | {row['pair']:.1%} | {row['top']:.1%} |")
    lines += [
        "",
        "Dictionaries, on fresh generated stories (BOS left out), and in brackets on the standard",
        f"library. *Dead*: no activation in {DEAD_TOKENS:,} tokens of both. *Recovered*: against",
        "the mean over these documents in its place.",
        "",
        "| dictionary | explained variance | L0 | ΔCE, nats | recovered | dead |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in figures["dictionaries"].items():
        cells = [
            f"{row[key]:{form}} ({row[f'stdlib_{key}']:{form}})"
            for key, form in (
                ("explained_variance", ".3f"),
                ("l0", ".1f"),
                ("delta_ce", ".3f"),
                ("recovered_mean", ".3f"),
            )
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['dead']:.1%} |")
    return "\n".join(lines) + "\n"
