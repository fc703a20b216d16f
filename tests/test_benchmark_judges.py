"""The benchmark of judges runs, and its judges are what it says they are."""

import json
from collections.abc import Callable

import pytest

from benchmarks import judging_judges as benchmark
from benchmarks.judging_judges import Truth
from tests.openai_server import Rule

TRUTH = Truth({'"cats"': frozenset({'"a cat"'})})


def answers(rule: Rule, label: str, n: int) -> list[int]:
    """What a judge says of `n` questions with a firing and a silent window each."""
    text = f'Say.\n\n"{label}"\n\nPieces.\n\n1. "a cat"\n2. "a dog"\n\nAnswer.'
    body = {"messages": [{"role": "user", "content": text}]}
    return [x for _ in range(n) for x in json.loads(str(rule(body)))["answers"]]


@pytest.mark.parametrize(
    ("judge", "label", "firing", "silent"),
    [
        (benchmark.always_yes, "cats", 1.0, 1.0),
        (benchmark.coin, "cats", 0.5, 0.5),
        (benchmark.oracle, "cats", 0.7, 0.3),
        (benchmark.oracle, "another label", 0.3, 0.3),
    ],
)
def test_judges_say_what_they_are_known_for(
    judge: Callable[[Truth], Rule], label: str, firing: float, silent: float
) -> None:
    said = answers(judge(TRUTH), label, 2000)
    assert sum(said[::2]) / 2000 == pytest.approx(firing, abs=0.04)
    assert sum(said[1::2]) / 2000 == pytest.approx(silent, abs=0.04)


@pytest.mark.process
@pytest.mark.slow
def test_the_benchmark_gives_each_judge_a_verdict(base, tmp_path) -> None:
    """On two features, which are too few for any finding but their own being too few."""
    from tests.jobs import MANY

    facts = benchmark.measure(base.path, MANY, 2)
    assert [row["judge"] for row in facts["judges"]] == list(benchmark.SIMULATED)
    assert all(row["verdict"]["finding"] == "too few" for row in facts["judges"])
    assert facts["judges"][0]["yes"]["mean"] == 1.0
    assert "too few" in benchmark.report(facts).lower()
    assert len(benchmark.goals(facts)) == 6
