"""A map from the button to the picture, and the jobs behind it, in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_store.feature_maps import FeatureMaps
from feature_store.job_process import hold_job
from feature_store.jobs import Jobs
from tests.browser import served, visiting
from tests.maps import make_mapped

pytestmark = [pytest.mark.browser, pytest.mark.process, pytest.mark.timeout(600)]
PLACE_OF = """() => {
  const plot = document.querySelector(".js-plotly-plot"), layout = plot._fullLayout;
  const box = plot.getBoundingClientRect(), points = plot._fullData[0];
  return [box.x + layout.xaxis._offset + layout.xaxis.l2p(points.x[0]),
          box.y + layout.yaxis._offset + layout.yaxis.l2p(points.y[0])];
}"""
"""Where on the screen the first point stands."""
SLOW_MS = 240_000
"""What numba may take to compile on a busy machine."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("jobs")
    make_mapped(folder / "store")
    with served(folder / "store", folder / "log") as url:
        yield url, folder


@pytest.fixture
def page(browser, site) -> Iterator:
    """A fresh page; afterwards nothing may have gone wrong in it or in the server."""
    with visiting(browser, site[0], site[1] / "log") as found:
        yield found


def test_from_the_button_to_the_map_to_a_feature(page, site) -> None:
    """The job pauses and goes on; the picture comes by itself; a lasso lists, a click opens."""
    _, folder = site
    jobs = Jobs(folder / "store")
    page.goto("/map?dictionary=resid")
    page.get_by_role("button", name="Compute the map").click()
    page.get_by_role("button", name="pause").click()
    page.get_by_text(re.compile("^paused")).wait_for(timeout=SLOW_MS)
    page.get_by_role("link", name=re.compile(r"^Jobs\s1$")).click()
    page.get_by_text("paused", exact=True).wait_for()
    page.get_by_role("button", name="resume").click()
    page.get_by_role("button", name="delete").wait_for(timeout=SLOW_MS)
    page.get_by_text("done", exact=True).wait_for()
    (job,) = jobs.list_jobs()
    assert job.state == "done" and FeatureMaps(folder / "store").find("tiny-0001", "resid")

    page.get_by_role("link", name="Map").click()
    drag = page.locator(".js-plotly-plot .nsewdrag").first
    drag.wait_for()
    page.wait_for_timeout(1500)
    page.locator("[data-attr=dragmode][data-val=select]").click()
    box = drag.bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + box["height"] - 3, steps=8)
    page.mouse.up()
    page.get_by_text("39 features selected").wait_for()

    page.goto("/map?dictionary=resid&colour=cluster")
    drag.wait_for()
    page.wait_for_timeout(1500)
    x, y = page.evaluate(PLACE_OF)
    page.mouse.move(x - 2, y, steps=3)
    page.mouse.move(x, y, steps=3)
    page.locator(".hoverlayer .hovertext").wait_for()
    page.mouse.click(x, y)
    page.wait_for_url(re.compile(r"/feature\?.*feature=resid%2F\d+"))  # points may overlap


def test_a_failed_job_says_why_and_can_be_deleted(page) -> None:
    page.goto("/map?dictionary=abs")  # its weights are not known here
    page.get_by_role("button", name="Compute the map").click()
    page.get_by_text(re.compile("The last try was failed: This machine")).wait_for(timeout=SLOW_MS)
    page.goto("/jobs")
    row = page.locator("[class*=st-key-job_]", has_text="failed")
    row.get_by_role("button", name="log").click()
    page.get_by_text("reading the decoder").wait_for()
    row.get_by_role("button", name="delete").click()
    row.wait_for(state="detached")


def test_addresses_in_what_a_job_says_are_text_and_no_links(page, site) -> None:
    said = (
        "Nothing answers at it (http://127.0.0.1:8000/v1), it said: see HTTPS://evil.example/a_b, "
        "www.evil.example or ask@evil.example, [or](http://127.0.0.1/b)."
    )
    job = Jobs(site[1] / "store").create("map", {"dictionary": "resid"}, said)
    with hold_job(job) as work:
        work.finish("failed", error=said)
    page.goto(f"/jobs?job={job.id}")
    row = page.locator(f".st-key-job_{job.id}")
    row.get_by_text("Nothing answers").last.wait_for()
    assert row.inner_text().count(said) == 2
    assert row.locator("a").count() == 0
