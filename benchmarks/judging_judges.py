"""Judges of which it is known how good they are, and one real model, on the same explanations.

    python -m benchmarks.judging_judges --store DEMO [--base-url URL --model NAME --minutes 25]

Features of a store get labels by patterns; each judge scores them by detection, like any language
model: over HTTP, by `saefari score`, with a verdict at the end. Three judges are simulated: one
that always says yes, a coin, and an oracle that says what is true of the label that it was shown,
with a chance of 70 %. The first two must read "at chance", the oracle must not. The real model gets
a stated time, after which its job is stopped by Ctrl-C, and may end in "too few".
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autointerp.contexts import FeatureSample, SampleSettings, sample_features
from autointerp.pipeline.labels_to_score import LabelsToScore
from autointerp.pipeline.progress_log import ProgressLog
from autointerp.pipeline.score_summary import ScoreSummary
from autointerp.scorers import SCORERS
from autointerp.scorers.prompt_templates import quote_as_json
from benchmarks.children import ONE_THREAD, ROOT
from benchmarks.goals import Goal, table
from feature_store.harvest_reader import HarvestFile
from feature_store.jobs import Job, Jobs
from feature_store.store import Store
from tests.openai_server import Body, Rule, asked, digits, serve

DICTIONARY = "resid-2"
RIGHT = 0.7
"""How often the oracle says what is true."""
PAIRS = 2_600
"""Windows judged with both labels: a coin needs so many to be called one."""
FEATURES = 64
CONCURRENCY = 8
ITEM = re.compile(r'^\d+\. (".*")$', re.M)
LABEL = re.compile(r'^(".*")$', re.M)
SIMULATED = ("always yes", "coin", f"oracle {RIGHT:.0%}")


@dataclass(frozen=True)
class Truth:
    """On which of the windows that judges are shown the feature of a label fires."""

    fires: Mapping[str, frozenset[str]]
    """Label, as prompts quote it → the texts of the windows in which its feature fires."""

    def of(self, body: Body) -> list[bool]:
        """Return what is true of each item of a question, by the label that it shows."""
        text = asked(body)
        firing = self.fires.get(LABEL.findall(text)[0], frozenset())
        return [item in firing for item in ITEM.findall(text)]


def always_yes(truth: Truth) -> Rule:
    """Return a judge that says yes to everything."""
    return lambda body: digits([True] * len(truth.of(body)))


def coin(truth: Truth) -> Rule:
    """Return a judge that throws a coin for each item."""
    dice = random.Random(0)
    return lambda body: digits([dice.random() < 0.5 for _ in truth.of(body)])


def oracle(truth: Truth) -> Rule:
    """Return a judge that says what is true of the label with a chance of RIGHT."""
    dice = random.Random(1)
    return lambda body: digits([right == (dice.random() < RIGHT) for right in truth.of(body)])


def known_truth(file: HarvestFile, store: Store, dictionary: str, features: list[int]) -> Truth:
    """Return the truth about every window that the judges will be asked about.

    What a borrowed label's feature does in another's windows is known where the two share a window;
    elsewhere it counts as silent, which it is in nearly all windows.
    """
    labels = LabelsToScore(file, dictionary, store.catalog.snapshot().scorable)
    found: dict[str, set[str]] = {}
    for feature, windows in sample_features(
        file, dictionary, features, SampleSettings(shown=False)
    ):
        if isinstance(windows, FeatureSample):
            for label in labels.of_feature(feature.index):
                texts = found.setdefault(quote_as_json(label.text), set())
                texts |= {quote_as_json(example.text) for example in windows.positives}
    return Truth({label: frozenset(texts) for label, texts in found.items()})


def measure(
    demo: Path,
    dictionary: str = DICTIONARY,
    features: int = FEATURES,
    base_url: str = "",
    model: str = "",
    minutes: float = 25.0,
) -> dict[str, Any]:
    """Return what each judge's scores come to; nothing is written into the `demo` store itself."""
    with tempfile.TemporaryDirectory(dir=demo.resolve().parent) as folder:
        store = linked_store(Path(folder) / "store", demo)
        file = store.harvest()
        run_command(store, "explain", dictionary, features, None)
        texts = store.catalog.snapshot().explanations.texts_by_feature(dictionary)
        truth = known_truth(file, store, dictionary, sorted(texts))
        rules: dict[str, Callable[[Truth], Rule]] = dict(
            zip(SIMULATED, (always_yes, coin, oracle), strict=True)
        )
        rows = []
        for name, rule in rules.items():
            with serve(rule(truth), keep=False) as server:
                rows.append(judged(store, dictionary, features, server.base_url, name, None))
        if base_url:
            rows.append(judged(store, dictionary, features, base_url, model, minutes))
    return {"dictionary": dictionary, "minutes": minutes, "judges": rows}


def linked_store(path: Path, demo: Path) -> Store:
    """Return a new store with the newest harvest of another one."""
    store = Store.create(path)
    source = Store(demo).harvest().path
    (store.path / "harvests").mkdir(exist_ok=True)
    (store.path / "harvests" / source.name).hardlink_to(source)
    return store


def judged(
    store: Store, dictionary: str, features: int, base_url: str, model: str, minutes: float | None
) -> dict[str, Any]:
    """Return the summary of one judge's scores, after the stated time at the latest."""
    began = time.monotonic()
    concurrency = CONCURRENCY if minutes is None else 2
    job = run_command(
        store,
        "score",
        dictionary,
        features,
        minutes,
        "--explainer",
        "pattern",
        "--judge",
        "openai",
        "--base-url",
        base_url,
        "--model",
        model,
        "--concurrency",
        concurrency,
    )
    d_sae = store.harvest().dictionary(dictionary).d_sae
    summary = ScoreSummary(d_sae, ["pattern"], {"detection": SCORERS["detection"]})
    for entry in ProgressLog(job.folder).entries():
        summary.add(entry)
    (row,) = summary.results()
    return {
        "judge": model,
        "state": job.state,
        "seconds": time.monotonic() - began,
        "features": summary.taken,
        "mean": row["mean"],
        "low": row["low"],
        "high": row["high"],
        "difference": row["nulls"]["borrowed"]["difference"],
        "pairs": row["pairs"],
        "yes": row["yes"],
        "verdict": row["verdict"],
        "questions": summary.questions.total().to_json(),
    }


def run_command(
    store: Store,
    command: str,
    dictionary: str,
    features: int,
    minutes: float | None,
    *more: object,
) -> Job:
    """Return the job of a command after its end, or after Ctrl-C when its time is up.

    What it found by then is in the job's ledger. RuntimeError where it failed.
    """
    words = [
        sys.executable,
        "-m",
        "app.cli",
        command,
        "--store",
        store.path,
        "--dictionary",
        dictionary,
        "--features",
        f"top:{features}",
        "--yes",
        *more,
    ]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [str(word) for word in words],
            cwd=ROOT,
            env=os.environ | ONE_THREAD,
            stdout=said,
            stderr=said,
            text=True,
        )
        try:
            process.wait(None if minutes is None else minutes * 60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
        job = Jobs(store.path).list_jobs()[0]
        if job.state not in ("done", "stopped"):
            said.seek(0)
            raise RuntimeError(f"{command} failed:\n{said.read()[-4000:]}")
    return job


def goals(facts: dict[str, Any]) -> list[Goal]:
    """Return whether each simulated judge got its verdict, from enough pairs."""
    found = {row["judge"]: row for row in facts["judges"]}
    wanted = {SIMULATED[0]: "at chance", SIMULATED[1]: "at chance", SIMULATED[2]: "above"}
    return [
        Goal(
            f"{name} reads {verdict!r}",
            float(found[name]["verdict"]["finding"] == verdict),
            1.0,
            at_least=True,
            note=found[name]["verdict"]["sentence"],
        )
        for name, verdict in wanted.items()
    ] + [Goal(f"pairs of {name}", found[name]["pairs"], PAIRS, at_least=True) for name in wanted]


def report(facts: dict[str, Any]) -> str:
    """Return a row for each judge."""
    rows = []
    for row in facts["judges"]:
        apart, yes = row["difference"], row["yes"]["mean"]
        rows.append(
            [
                row["judge"],
                row["features"],
                row["pairs"],
                decimals(row["mean"]),
                decimals(apart["mean"]),
                f"{decimals(apart['low'])} … {decimals(apart['high'])}",
                decimals(yes),
                row["questions"]["answered"],
                sum(one["questions"] for one in row["questions"]["failures"].values()),
                f"{row['seconds']:.0f}",
                row["verdict"]["sentence"],
            ]
        )
    columns = [
        "judge",
        "features",
        "pairs",
        "mean",
        "own − borrowed",
        "95 %",
        "yes",
        "answered",
        "failed",
        "s",
        "verdict",
    ]
    return table(f"Judges of detection, {facts['dictionary']}", columns, rows)


def decimals(value: float | None) -> str:
    """Return three decimals, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def main() -> None:
    """Print the table and the goals, and write the facts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True, help="It has the demo's harvest.")
    parser.add_argument("--dictionary", default=DICTIONARY)
    parser.add_argument("--features", type=int, default=FEATURES)
    parser.add_argument("--base-url", default="", help="Of a real server, if any.")
    parser.add_argument("--model", default="")
    parser.add_argument("--minutes", type=float, default=25.0, help="Time of the real model.")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    facts = measure(
        args.store, args.dictionary, args.features, args.base_url, args.model, args.minutes
    )
    text = "\n".join([report(facts), *map(str, goals(facts))])
    print(text)  # noqa: T201 - the script's own output
    if args.out:
        args.out.write_text(json.dumps(facts), "utf-8")


if __name__ == "__main__":
    main()
