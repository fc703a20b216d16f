"""A page as Streamlit's own test harness draws it."""

import time
from typing import Any

from streamlit.testing.v1 import AppTest

from app import live
from app.serve import MAIN
from feature_store.harvest_reader import HarvestFile


def opened(
    page: str, session: dict[str, Any] | None = None, /, **query: str | list[str]
) -> AppTest:
    """The page as a link opens it, in a session that may have its own state; it may not raise."""
    test = AppTest.from_file(str(MAIN), default_timeout=60).switch_page(page)
    for name, value in (session or {}).items():
        test.session_state[name] = value
    for name, value in query.items():
        test.query_params[name] = value
    test.run()
    assert not test.exception
    return test


def engine_loaded(file: HarvestFile, seconds: float = 30) -> bool:
    """Load the engine of a harvest; whether it is there, or has failed, in time."""
    until = time.monotonic() + seconds
    live.at_hand(file)
    while not live.models().poll(file.record.model_hash) and time.monotonic() < until:
        time.sleep(0.01)
    return live.models().poll(file.record.model_hash)
