"""A store's own files, as people and programs may leave them: read, or refused in one sentence."""

import json
from pathlib import Path

import pytest

from feature_store.errors import InputError
from feature_store.jobs import Jobs
from feature_store.record_validation import Count, ForeignRecord, Real, show_value
from feature_store.weight_locations import WeightLocations
from tests.foreign_files import spoil_file

GOOD_STATE = {
    "state": "done",
    "queued": "2026-01-01T10:00:00+00:00",
    "started": "2026-01-01T10:00:01+00:00",
    "ended": "2026-01-01T10:00:09+00:00",
    "done": 4,
    "total": 5,
    "note": "counting",
    "eta_s": 1.5,
    "error": "",
    "result": {"n": 3},
}


class Dose(ForeignRecord):
    """A record of the tests."""

    k: Count
    strength: Real = 1.0


def test_places_are_read_or_refused_by_name(tmp_path: Path) -> None:
    places = WeightLocations(tmp_path / "places.json")
    seen = set()
    for what in spoil_file(places.path, {"hash": "folder", "other": "model@hook"}):
        try:
            known = places.read_all()
        except InputError as error:
            seen.add("refused")
            assert "places.json" in str(error) and "harvest again" in str(error), what
        else:
            seen.add("read")
            assert all(isinstance(one, str) and one for one in known.values()), what
    assert seen == {"refused", "read"}


@pytest.mark.parametrize("name", ["job.json", "state.json"])
def test_a_malformed_job_is_named_and_the_others_stay(tmp_path: Path, name: str) -> None:
    jobs = Jobs(tmp_path)
    other, job = (jobs.create("count", {"to": 10}, "ten") for _ in range(2))
    if name == "state.json":
        (job.folder / name).write_text(json.dumps(GOOD_STATE))
    good = json.loads((job.folder / name).read_text())
    refused = 0
    for what in spoil_file(job.folder / name, good):
        jobs = Jobs(tmp_path)  # nothing is kept from before
        found = {one.id for one in jobs.list_jobs()}
        assert other.id in found, what
        if job.id not in found:
            refused += 1
            (problem,) = jobs.problems()
            assert job.id in problem and name in problem and "Delete the folder" in problem, what
            with pytest.raises(InputError, match="cannot be read"):
                jobs.get(job.id)
    assert refused > 50
    assert job.id in {one.id for one in Jobs(tmp_path).list_jobs()}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "f.json has no k"),
        ({"k": True}, "f.json has k = true: it must be a whole number"),
        ({"k": "3"}, 'f.json has k = "3": it must be a whole number'),
        ({"k": 2.5}, "f.json has k = 2.5: it must be a whole number"),
        ({"k": 0}, "f.json has k = 0: it must be greater than or equal to 1"),
        ({"k": 10**30}, "less than or equal to 2147483647"),
        ({"k": 1, "strength": float("nan")}, "has strength = nan: it must be a finite number"),
        ({"k": 1, "strength": []}, "f.json has strength = []: it must be a number"),
        ([], "f.json is []: it must be a JSON object"),
        (None, "f.json is null: it must be a JSON object"),
    ],
)
def test_the_first_wrong_key_is_said_with_what_it_must_be(content: object, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        Dose.read(content, "f.json")
    assert sentence in str(caught.value)


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert Dose.read({"k": 16.0, "more": "is passed over"}, "f.json").k == 16
    assert len(show_value(["long"] * 100)) == 60
