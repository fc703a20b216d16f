"""`kill -9` at random moments: what was paid for is used, nothing is lost, nothing comes twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest

from feature_store.store import Store
from tests.harvests import Rig
from tests.jobs import MANY, explainable
from tests.openai_server import Said, Server, asked, serve

pytestmark = pytest.mark.process
CONCURRENCY = 3
KILLS = 2


def begin(folder: Path, base_url: str, explainer: str) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "app.cli",
        "explain",
        "--store",
        str(folder),
        "--dictionary",
        MANY,
        "--features",
        "all",
        "--explainer",
        explainer,
        "--model",
        "m",
        "--base-url",
        base_url,
        "--concurrency",
        str(CONCURRENCY),
        "--json",
    ]
    env = {**os.environ, "XDG_CONFIG_HOME": str(folder)}
    root = Path(__file__).resolve().parents[1]
    return subprocess.Popen(command, cwd=root, env=env, stdout=-1, stderr=-1, text=True)


def kill_after(process: subprocess.Popen, server: Server, calls: int, pause_s: float) -> None:
    """At a random moment after so many calls; InterruptedError where it was over before."""
    end, target = time.monotonic() + 60, server.calls + calls
    while server.calls < target:
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.002)
    time.sleep(pause_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def repeats(server: Server, of: Sequence[str]) -> int:
    """Replies that were given once more than they had to be."""
    return sum(n - 1 for prompt, n in server.answered.items() if prompt in of)


def test_a_killed_job_goes_on_and_another_one_is_at_the_store(rig: Rig, tmp_path: Path) -> None:
    store, dice = explainable(rig, tmp_path), random.Random(3)

    def sentence(body) -> Said:
        words = f"about {random.Random(asked(body)).random()}"
        return Said(json.dumps({"explanation": words}), delay_s=0.05)

    with serve(sentence) as server:
        other = begin(tmp_path, server.base_url, "token-activation")
        for _ in range(KILLS):
            process = begin(tmp_path, server.base_url, "max-activating")
            kill_after(process, server, dice.randint(5, 15), dice.random() * 0.1)
        done = [begin(tmp_path, server.base_url, "max-activating"), other]
        outputs = [process.communicate(timeout=120) for process in done]
    assert [process.returncode for process in done] == [0, 0], outputs
    facts = [json.loads(out) for out, _ in outputs]
    rows = [one["results"][0] for one in facts]
    assert [row["n"] for row in rows] == [45, 45] and rows[0]["failed"] == 0
    assert facts[0]["lost"] <= CONCURRENCY
    assert repeats(server, list(server.answered)) <= KILLS * CONCURRENCY
    check(store, rows, facts)


def check(store: Store, rows: list[dict], facts: list[dict]) -> None:
    """Every sentence once; the record has a reply for each, and says what was lost."""
    said = store.catalog.snapshot().explanations.table.to_pylist()
    assert len(said) == 90 and len({(one["feature"], one["explainer"]) for one in said}) == 90
    for row, one in zip(rows, facts, strict=True):
        path = store.path / "jobs" / f"{one['job']}.duckdb"
        with duckdb.connect(str(path), read_only=True) as db:
            replies, keys = db.execute(
                "SELECT count(text), count(DISTINCT key) FILTER (text IS NOT NULL) FROM outcome"
            ).fetchall()[0]
        assert row["calls"] == replies == keys == 45
        assert row["tokens"] == 45 * 110
