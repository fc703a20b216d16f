"""In a real browser: explain now, score now, the Scores page, and its way to the table."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from autointerp.contexts import FeatureSample, sample_features
from feature_store.explanation_edits import write_explanation
from feature_store.feature_table import FeatureQuery, order_features
from feature_store.jobs import Jobs
from feature_store.store import Store
from tests.browser import served, visiting
from tests.harvests import Rig
from tests.jobs import NAME, explainable

pytestmark = [pytest.mark.browser, pytest.mark.process, pytest.mark.timeout(600)]
MARKUP = "<script>alert(1)</script> & <b>dogs</b>"
SLOW_MS = 180_000
"""What a job's process may take on a busy machine."""


@pytest.fixture(scope="module")
def site(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("scores")
    explainable(rig, folder / "store")
    with served(folder / "store", folder / "log") as url:
        yield url, folder


@pytest.fixture
def page(browser, site) -> Iterator:
    with visiting(browser, site[0], site[1] / "log") as found:
        yield found


def test_from_the_button_to_the_scores_to_the_table(page, site) -> None:
    store = Store(site[1] / "store")
    file = store.harvest()
    wanted = FeatureQuery(order="n_active", descending=True)
    feature = explained_one(page, store, [int(i) for i in order_features(file, NAME, wanted)[:12]])
    page.get_by_role("button", name="Score now").click()
    page.get_by_text("balanced accuracy").first.wait_for(timeout=SLOW_MS)
    page.get_by_text(re.compile(r"^0\.\d\d \[0\.\d\d, \d\.\d\d\]$")).first.wait_for()

    write_explanation(store.catalog, file.check_feature(feature), MARKUP)
    page.goto(f"/feature?feature={feature}&tab=Explanations")
    page.get_by_text(MARKUP, exact=True).first.wait_for()
    assert page.locator("b", has_text="dogs").count() == 0

    page.get_by_role("link", name="Scores").click()
    page.get_by_role("heading", name="Distributions, pattern").wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
    page.get_by_role("link", name=re.compile("^Open 1 feature")).click()
    page.wait_for_url(re.compile(rf"/features\?.*only={feature.index}"))
    page.get_by_text(re.compile("^1 of 120 features")).wait_for()


def explained_one(page, store: Store, candidates: list[int]):
    """A feature with windows enough, explained from its page."""
    found = sample_features(store.harvest(), NAME, candidates)
    feature = next(one for one, windows in found if isinstance(windows, FeatureSample))
    page.goto(f"/feature?feature={feature}&tab=Explanations")
    page.get_by_role("button", name="Explain now").click()
    page.get_by_role("button", name="Score now").wait_for(timeout=SLOW_MS)
    (job,) = Jobs(store.path).list_jobs()
    assert job.result["explained"] == 1
    page.get_by_text("pattern · from").first.wait_for()
    return feature
