"""The page's own components: JavaScript beside its style, joined here.

They get plain data and build the page with text nodes only, so no token can become markup. A link
is a real link (it opens in a new tab, it can be copied); a plain click tells Python, without a
reload.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamlit.components.v2 import component

HERE = Path(__file__).parent


def declare(name: str) -> Callable[..., Any]:
    """The mount function of the component in NAME.js and NAME.css."""
    return component(
        f"saefari_{name}",
        html='<div class="root"></div>',
        css=(HERE / "base.css").read_text("utf-8") + (HERE / f"{name}.css").read_text("utf-8"),
        js=(HERE / "base.js").read_text("utf-8") + (HERE / f"{name}.js").read_text("utf-8"),
    )


def ignore() -> None:
    """A component that reports clicks must name a callback; the page reads the value instead."""


contexts, facts, document = declare("contexts"), declare("facts"), declare("document")
heading, prompt, rows = declare("heading"), declare("prompt"), declare("rows")
strip, steer = declare("strip"), declare("steer")
table, search, histogram = declare("table"), declare("search"), declare("histogram")
effects, ranked, sources = declare("effects"), declare("ranked"), declare("sources")
entries, ablated = declare("entries"), declare("ablated")
texts = declare("texts")
