"""The benchmark of jobs that explain and score runs, with few features."""

import pytest

from benchmarks import judging


@pytest.mark.process
def test_jobs_are_measured_and_reported() -> None:
    facts = judging.measure(30, 3)
    assert [row["features"] for row in facts["explain"]] == [3, 30]
    assert [row["failed"] for kind in ("explain", "score") for row in facts[kind]] == [0] * 4
    assert "instant server" in judging.report(facts)
    assert all(goal.figure >= 0 for goal in judging.goals(facts))
    assert facts["score"][-1]["off"]["calls"] < 0.15
