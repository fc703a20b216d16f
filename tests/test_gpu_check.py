"""The GPU check runs from end to end on the CPU, and no step can stop those after it."""

import json
import time
from pathlib import Path

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_bench import Bench, NotHere
from benchmarks.gpu_steps import STEPS
from tests.dictionaries import saved
from tests.harvests import texts
from tests.models import save


def lines(out: Path) -> list[dict]:
    return list(map(json.loads, (out / "gpu_check.jsonl").read_text().splitlines()))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A random model, an SAE, a transcoder and a text."""
    folder = tmp_path / "data"
    save(folder / "model")
    saved(folder / "sae", "topk", d_in=16)
    places = {"hook_name": "blocks.1.ln2.hook_normalized", "hook_name_out": "blocks.1.hook_mlp_out"}
    saved(folder / "transcoder", "transcoder", d_in=16, d_out=16, metadata=places)
    (folder / "text").mkdir()
    (folder / "text" / "words.txt").write_text("\n\n".join(texts(120)))
    return folder


def test_every_step_passes_on_the_cpu(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--data", str(data), "--out", str(out), "--device", "cpu", "--tiny"]
    assert gpu_check.main(arguments) == 0
    first, *rest = lines(out)
    assert first["step"] == "machine" and first["device"] == "cpu" and first["torch"]
    assert [one["step"] for one in rest] == [step.__name__ for step in STEPS]
    statuses = {one["step"]: one["status"] for one in rest}
    assert statuses.pop("run_out_of_memory") == "not here"
    assert set(statuses.values()) == {"passed"}
    assert "Traceback" not in (out / "gpu_check.log").read_text()


def test_what_fails_hangs_or_differs_is_written_down_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(bench: Bench) -> dict:
        raise ValueError("broken")

    def hangs(bench: Bench) -> dict:
        time.sleep(60)
        return {}

    def differs(bench: Bench) -> dict:
        return {"n": 3, "wrong": ["too many"]}

    def elsewhere(bench: Bench) -> dict:
        raise NotHere("Only there.")

    def passes(bench: Bench) -> dict:
        return {"n": 1}

    steps = {fails: 5.0, hangs: 0.05, differs: 5.0, elsewhere: 5.0, passes: 5.0}
    monkeypatch.setattr(gpu_check, "STEPS", steps)
    assert gpu_check.main(["--data", ".", "--out", str(tmp_path), "--device", "cpu"]) == 1
    found = {one["step"]: one for one in lines(tmp_path)[1:]}
    assert [one["status"] for one in found.values()] == [
        "failed",
        "timeout",
        "failed",
        "not here",
        "passed",
    ]
    assert found["fails"]["error"] == "ValueError: broken"
    assert found["differs"]["figures"] == {"n": 3} and found["differs"]["error"] == "too many"
    assert "Traceback" in (tmp_path / "gpu_check.log").read_text()
    monkeypatch.setattr(gpu_check, "WHOLE_S", 1.0)
    gpu_check.main(["--data", ".", "--out", str(tmp_path), "--device", "cpu"])
    assert {one["status"] for one in lines(tmp_path)[1:]} == {"not run"}
