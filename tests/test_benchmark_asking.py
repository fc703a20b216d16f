"""The benchmark of calls runs, with few of them."""

import pytest

from benchmarks import asking, one_asking


@pytest.mark.process
def test_calls_are_measured_and_reported() -> None:
    facts = one_asking.measure(30)
    assert [row["calls"] for row in facts] == [30, 300, 300]
    assert [row["cached"] for row in facts] == [0, 30, 300]
    assert "instant server" in asking.report(facts)
    assert all(goal.figure > 0 for goal in asking.goals(facts))
