"""Explaining by a language model from the Jobs page: time before the start, reasons of failures."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_store.jobs import Jobs
from tests.browser import served, visiting
from tests.jobs import NAME
from tests.openai_server import Fault, Said, asked, serve

pytestmark = [pytest.mark.browser, pytest.mark.process, pytest.mark.timeout(300)]
SENTENCE = "This server takes no <b>such</b> questions."


@pytest.fixture
def site(base, tmp_path: Path, monkeypatch) -> Iterator[tuple[str, Path]]:
    """Pages of a store beside a server that refuses every other prompt."""
    prompts: dict[str, None] = {}

    def rule(body) -> Said | Fault:
        prompts.setdefault(asked(body))
        number = list(prompts).index(asked(body))
        if number % 2:
            return Fault(400, message=SENTENCE)
        return Said(json.dumps({"explanation": f"word {number}"}), delay_s=0.3)

    with serve(rule) as running:
        text = f'[servers.lab]\nbase_url = "{running.base_url}"\nmodels = ["m"]\nconcurrency = 1\n'
        (tmp_path / "servers.toml").write_text(text)
        monkeypatch.setenv("SAEFARI_SERVERS", str(tmp_path / "servers.toml"))
        store = tmp_path / "store"
        (store / "harvests").mkdir(parents=True)
        for path in (base.path / "harvests").glob("*.duckdb"):
            (store / "harvests" / path.name).hardlink_to(path)
        with served(store, tmp_path / "log") as url:
            yield url, tmp_path


def test_the_time_is_measured_then_said_and_failures_have_reasons(browser, site) -> None:
    url, folder = site
    jobs = Jobs(folder / "store")
    with visiting(browser, url, folder / "log") as page:
        page.goto(f"{url}/jobs?dictionary={NAME}&start=explain")
        features = page.get_by_role("textbox", name="Features")
        features.fill("top:6")
        features.press("Enter")
        page.get_by_role("combobox", name=re.compile("Explainers")).click()
        page.get_by_role("option", name="max-activating").click()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Remove pattern").click()
        page.get_by_role("button", name="Estimate").click()
        page.get_by_text(re.compile("time not known")).wait_for()
        page.get_by_role("button", name=re.compile("Measure the time with 3 questions")).click()
        page.get_by_text("stopped", exact=True).wait_for()
        (job,) = jobs.list_jobs()
        assert (job.state, job.result) == ("stopped", {})
        page.get_by_role("button", name="Estimate").click()
        page.get_by_text(re.compile("at the pace of [0-9] measured repl")).wait_for()
        page.get_by_role("button", name="Start").click()
        page.get_by_text("done", exact=True).wait_for()
        row = page.locator(f".st-key-job_{job.id}")
        row.get_by_text(re.compile("3 of 6 questions ")).wait_for()
        said = row.inner_text()
        assert SENTENCE.rstrip(".") in said and "server" in said
        assert row.locator("b").count() == 0  # the server's words are text
        (job,) = jobs.list_jobs()  # the same one, taken up again
        assert job.state == "done" and job.result["questions"]["answered"] == 3
