"""The way of a run's tokens to the browser: server-sent events, as they are drawn.

The page's component listens; while somebody listens the visitor is there, and when nobody does any
more the run is let go.
"""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from app.steer.run import RUNS, SteeringRun
from feature_store.strict_json import dump_json

PATH = "/api/runs/{name}"
POLL_S = 0.03
"""How long a token may lie before it is sent."""
QUIET_S = 2.0
"""A line that is silent for so long is given a sign of life, which also shows that it is broken."""


async def listen(request: Request) -> Response:
    """A run's messages from its beginning, until it is done."""
    run = RUNS.get(request.path_params["name"])
    if run is None:
        return JSONResponse({"error": "there is no such run here any more"}, status_code=404)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(messages(run), media_type="text/event-stream", headers=headers)


async def messages(run: SteeringRun) -> AsyncIterator[str]:
    """Each what is new, as JSON."""
    seen: dict = {}
    last: tuple | None = None
    quiet = 0.0
    while True:
        run.ticket.touch()
        now = (run.changes, run.state())
        if now != last:
            last, quiet = now, 0.0
            yield f"data: {dump_json(run.message(seen))}\n\n"
        elif (quiet := quiet + POLL_S) > QUIET_S:
            quiet = 0.0
            yield ": still here\n\n"
        if now[1]["done"]:
            return
        await asyncio.sleep(POLL_S)


ROUTE = Route(PATH, listen)
