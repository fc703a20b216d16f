"""The benchmark of searches runs, on few features."""

import pytest

from benchmarks import one_search, search


def test_searches_are_measured_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORDS", 300), ("CORPUS", 3000), ("SEQUENCES", 32), ("QUERIES", 4)):
        monkeypatch.setattr(one_search, name, value)
    facts = one_search.measure(256)
    assert "token, fires or promotes" in search.report(facts)
    assert len(search.goals(facts)) == 3 and all(goal.figure > 0 for goal in search.goals(facts))
