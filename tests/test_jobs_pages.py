"""The pages Jobs and Map, and who may start what: no browser, no model."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app import scatter, serve, session, theme
from app.jobs import mapping, starting
from app.points import Points
from feature_store import permissions
from feature_store.annotations import Annotations
from feature_store.feature_maps import FeatureMap, FeatureMapInfo, FeatureMapPlan, FeatureMaps
from feature_store.job_process import hold_job
from feature_store.jobs import Jobs, format_timestamp, write_json_file
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.pages import opened
from tests.stores import D_SAE, DEAD, make_store

Open = Callable[..., AppTest]
GIVEN = mapping.arguments("tiny-0001", "resid", FeatureMapPlan())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "store")


@pytest.fixture
def visit(store: Store, monkeypatch: pytest.MonkeyPatch) -> Open:
    monkeypatch.setenv(session.STORE, str(store.path))
    monkeypatch.setenv(permissions.VARIABLE, "1")

    def go(page: str, **query: str) -> AppTest:
        return opened(page, **query)

    return go


def words(test: AppTest) -> str:
    shown = [*test.markdown, *test.caption, *test.title, *test.subheader, *test.code, *test.text]
    return "\n".join(element.value for element in shown).replace("\\", "")


def buttons(test: AppTest) -> list[str]:
    return [button.label for button in test.button]


def made(store: Store) -> FeatureMap:
    """A map by hand: a row of points, two clusters, the rest between."""
    features = np.array([i for i in range(D_SAE) if i != DEAD], dtype=np.int32)
    cluster = np.where(features < 10, 1, np.where(features < 21, 0, -1)).astype(np.int32)
    xy = np.column_stack([features, features % 3]).astype(np.float32)
    about = FeatureMapInfo("tiny-0001", "resid", "11", 15, 0.1, 0, None, 1, 5, 1.0, {})
    found = FeatureMap(about, features, xy, cluster)
    FeatureMaps(store.path).write(found)
    return found


def test_a_store_without_jobs_says_where_they_come_from(visit: Open) -> None:
    assert "No job yet" in words(visit(session.JOBS))


def test_every_state_has_its_words_and_its_buttons(visit: Open, store: Store) -> None:
    jobs = Jobs(store.path)
    failed, lost, queued = (jobs.create("map", GIVEN, name) for name in ("one", "two", "three"))
    with hold_job(failed) as work:
        work.finish("failed", error="Give another *dictionary*.")
    long_ago = format_timestamp(datetime.now(UTC) - timedelta(hours=1))
    write_json_file(lost.folder / "state.json", {"state": "queued", "queued": long_ago})
    test = visit(session.JOBS)
    for said in ("failed", "lost", "queued", "Give another *dictionary*.", "its process is gone"):
        assert said in words(test)
    assert {"pause", "cancel", "resume", "delete", "log", "Start"} == set(buttons(test))
    test.button(key=f"delete_{failed.id}").click().run()
    assert [job.id for job in jobs.list_jobs()] == [queued.id, lost.id]
    test.button(key=f"cancel_{queued.id}").click().run()
    assert (queued.folder / "cancel").exists() and "cancelling" in words(test)


def test_what_a_job_has_made_opens_from_its_line(visit: Open, store: Store) -> None:
    jobs = Jobs(store.path)
    done, failed = (jobs.create("circuit", {"harvest": "h"}, name) for name in ("one", "two"))
    with hold_job(done) as work:
        work.finish("done", result={"experiment": "e", "nodes": 3})
    with hold_job(failed) as work:
        work.finish("failed", error="No.")
    links = [one for one in visit(session.JOBS).get("page_link") if one.proto.label == "open"]
    assert [one.proto.query_string for one in links] == ["harvest=h&experiment=e"]


def test_a_log_opens_from_its_link(visit: Open, store: Store) -> None:
    job = Jobs(store.path).create("map", GIVEN, "one")
    with hold_job(job) as work:
        work.log("<b>a line</b>")
    test = visit(session.JOBS, job=job.id)
    assert "<b>a line</b>" in words(test) and '"dictionary": "resid"' in words(test)
    assert "No job called 'gone'" in words(visit(session.JOBS, job="gone"))


def test_pages_that_others_can_reach_start_nothing(
    visit: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    Jobs(store.path).create("map", GIVEN, "one")
    monkeypatch.setenv(permissions.VARIABLE, "0")
    test = visit(session.JOBS)
    assert buttons(test) == ["log"] and "--allow-jobs" in words(test)
    test = visit(session.MAP, dictionary="abs")
    assert all(one.disabled for one in test.button) and "saefari map --store" in words(test)


@pytest.mark.parametrize(
    ("host", "allow", "said"),
    [("127.0.0.1", False, "1"), ("0.0.0.0", False, "0"), ("0.0.0.0", True, "1")],
)
def test_who_serves_says_whether_jobs_may_start(
    store: Store, monkeypatch: pytest.MonkeyPatch, host: str, allow: bool, said: str
) -> None:
    monkeypatch.setenv(permissions.VARIABLE, "unset")
    monkeypatch.setenv(session.STORE, "unset")
    monkeypatch.setattr(serve, "run", lambda *_: None)
    serve.serve(store.path, host=host, port=0, open_browser=False, allow_jobs=allow)
    assert os.environ[permissions.VARIABLE] == said


@pytest.mark.process
def test_a_job_outlives_who_started_it_and_is_not_begun_twice(store: Store) -> None:
    """Its own process says that the harvest is not there; who started it has gone by then."""
    code = """
import sys
from pathlib import Path
from app.jobs.starting import start
given = {"harvest": "gone", "dictionary": "resid"}
one, two = (start(Path(sys.argv[1]), "map", given, "resid").id for _ in range(2))
assert one == two
"""
    subprocess.run([sys.executable, "-c", code, str(store.path)], check=True, timeout=60)
    (job,) = Jobs(store.path).list_jobs()
    end = time.monotonic() + 60
    while (job := Jobs(store.path).get(job.id)).is_active and time.monotonic() < end:
        time.sleep(0.1)
    assert job.state == "failed" and job.error.startswith("No harvest called 'gone'")


def test_without_a_map_the_page_says_how_to_get_one(
    visit: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "spawn", lambda *_: None)
    test = visit(session.MAP, dictionary="resid")
    assert "--dictionary resid --harvest tiny-0001" in words(test)
    test.button[0].click().run()
    (job,) = Jobs(store.path).list_jobs()
    assert (job.kind, job.arguments) == ("map", GIVEN)
    assert buttons(test) == ["pause", "cancel"]
    with hold_job(job) as work:
        work.finish("failed", error="It was not to be.")
    assert "The last try was failed: It was not to be." in words(visit(session.MAP))


def test_the_map_shows_clusters_marks_and_a_selection(visit: Open, store: Store) -> None:
    made(store)
    store.catalog.annotate(FeatureId("resid", 3), "label", "walking the dog")
    test = visit(session.MAP, dictionary="resid", mark="walking")
    clusters = test.dataframe[0].value
    assert list(clusters["features"]) == [11, 9] and clusters["name"][0] == "“ dog”"
    assert "1 marked" in words(test) and "1 left out: never fired" in words(test)
    test.session_state["map_clusters"] = {"selection": {"rows": [1], "columns": [], "cells": []}}
    test.run()
    table = next(p for p in test.get("bidi_component") if p.key == "map_table")
    assert "9 features selected" in table.proto.json
    (link,) = (p for p in test.get("page_link") if p.proto.label.startswith("Open these"))
    assert "only=0-6%2C8-9" in link.proto.query_string


def test_a_map_of_other_weights_is_not_shown(visit: Open, store: Store) -> None:
    found = made(store)
    other = FeatureMap(
        FeatureMapInfo(**{**vars(found.about), "weights_hash": "22"}),
        *list(vars(found).values())[1:],
    )
    FeatureMaps(store.path).write(other)
    assert "no map yet" in words(visit(session.MAP, dictionary="resid"))


def test_an_unknown_colour_is_refused(visit: Open, store: Store) -> None:
    made(store)
    assert "No colour called 'red'" in words(visit(session.MAP, dictionary="resid", colour="red"))


@pytest.mark.parametrize("by", scatter.COLOURS)
def test_the_figure_has_every_point_and_no_markup(store: Store, by: str) -> None:
    found = made(store)
    store.catalog.annotate(FeatureId("resid", 3), "label", "<a href='x'>dogs</a>")
    points = Points.read(store.harvest(), found, store.catalog.snapshot())
    marked = points.matching("dogs")
    assert found.feature[marked].tolist() == [3]
    figure = scatter.figure(points, points.clusters, by, marked, theme.LIGHT)
    everything, ring = figure.data
    assert everything["customdata"][:, 0].tolist() == found.feature.tolist()
    assert len(ring["x"]) == 1 and ring["hovertext"][0].startswith("<b>3</b><br>&lt;a href=")
    assert len(figure.layout.annotations) == (2 if by == "cluster" else 0)


def test_a_cluster_has_the_name_that_most_members_share(store: Store) -> None:
    found = made(store)
    for index in (12, 13, 14):
        store.catalog.annotate(FeatureId("resid", index), "label", "dogs")
    points = Points.read(store.harvest(), found, store.catalog.snapshot())
    assert [(one.name, one.sharing) for one in points.clusters] == [("“ dog”", 11), ("“ dog”", 9)]
    points.promoted[:] = [[str(i)] for i in range(len(points.labels))]
    again = Points(points.map, points.numbers, points.promoted, points.fires_on, points.labels)
    assert [(one.name, one.sharing) for one in again.clusters] == [("dogs", 3), ("cluster 2", 1)]


def test_a_feature_is_marked_by_its_number_or_its_tokens(store: Store) -> None:
    points = Points.read(store.harvest(), made(store), Annotations.empty())
    assert points.map.feature[points.matching("12")].tolist() == [12]
    assert points.matching("DOG").all() and not points.matching("  ").any()
    assert not points.matching("nowhere").any()
