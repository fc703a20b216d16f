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


def declare(name: str, *shared: str) -> Callable[..., Any]:
    """The mount function of the component in NAME.js and NAME.css; `shared` are scripts that it
    needs beside base.js."""
    return component(
        f"saefari_{name}",
        html='<div class="root"></div>',
        css="".join((HERE / f"{part}.css").read_text("utf-8") for part in ("base", name)),
        js="".join((HERE / f"{part}.js").read_text("utf-8") for part in ("base", *shared, name)),
    )


def ignore() -> None:
    """A component that reports clicks must name a callback; the page reads the value instead."""


contexts, facts, document = declare("contexts"), declare("facts"), declare("document")
heading, prompt, rows = declare("heading"), declare("prompt", "selecting"), declare("rows")
strip, steer = declare("strip", "selecting"), declare("steer")
table, search, histogram = declare("table"), declare("search"), declare("histogram")
effects, ranked, sources = declare("effects"), declare("ranked"), declare("sources")
entries, ablated = declare("entries"), declare("ablated")
texts = declare("texts")
