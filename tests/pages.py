"""A page as Streamlit's own test harness draws it."""

from typing import Any

from streamlit.testing.v1 import AppTest

from app.serve import MAIN


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
