"""The graph of a circuit: Cytoscape.js as it comes (app/vendor), fed with plain data.

The library is served beside the pages and loaded once by the browser, so no page run carries it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from streamlit.components.v2 import component

HERE = Path(__file__).parent
LIBRARY = HERE.parent / "vendor" / "cytoscape-3.34.4" / "cytoscape.esm.min.mjs"
PATH = f"/api/vendor/{LIBRARY.parent.name}/{LIBRARY.name}"


def read(*names: str) -> str:
    """Files of this folder, joined."""
    return "".join((HERE / name).read_text("utf-8") for name in names)


graph: Callable[..., Any] = component(
    "saefari_graph",
    html='<div class="root"></div>',
    css=read("base.css", "graph.css"),
    js=read("base.js", "graph_style.js", "graph.js"),
)


async def library(_request: Request) -> Response:
    """The library, for good: its path has its version."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return FileResponse(LIBRARY, media_type="text/javascript", headers=headers)


ROUTE = Route(PATH, library)
