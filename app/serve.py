"""The pages as a local web server."""

import os
import socket
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

from feature_store.errors import InputError
from feature_store.store import Store

FIRST_PORT, PORTS = 8501, 50
LOOPBACK = ("localhost", "127.0.0.1", "::1")
MAIN = Path(__file__).with_name("main.py")


def serve(
    store: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = True,
    ready: Callable[[str], None] = lambda url: None,
    allow_jobs: bool = False,
) -> None:
    """Serve the pages of `store` until Ctrl-C; `ready` gets the URL once they answer.

    Without a port the first free one from 8501 on. Where others can reach the pages these start
    no job (it would be work on this machine for a stranger) unless `allow_jobs`.
    Raises InputError for a folder that is no store and for a port that is taken.
    """
    Store(store)  # say what is wrong before anything starts
    bound = listen(host, port)
    os.environ["SAEFARI_STORE"] = str(store.resolve())
    os.environ["SAEFARI_JOBS"] = "1" if allow_jobs or host in LOOPBACK else "0"
    shown = "localhost" if host in LOOPBACK else host
    url = f"http://{shown}:{bound.getsockname()[1]}"

    def announce() -> None:
        ready(url)
        if open_browser:
            threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()

    try:
        run(bound, host, announce)
    except KeyboardInterrupt:
        return
    finally:
        bound.close()


def listen(host: str, port: int | None) -> socket.socket:
    """A bound socket: at `port`, or at the first free one from 8501 on."""
    if port is not None:
        try:
            return bind(host, port)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"Port {port} on {host} cannot be used ({reason(error)}). Give another with "
                "--port, or none and the first free one is taken."
            ) from error
    last: OSError | None = None
    for candidate in range(FIRST_PORT, FIRST_PORT + PORTS):
        try:
            return bind(host, candidate)
        except OSError as error:
            last = error
    raise InputError(
        f"No port from {FIRST_PORT} to {FIRST_PORT + PORTS - 1} can be used on {host} "
        f"({reason(last)}). Give one with --port."
    )


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises OSError where it may not, OverflowError beyond 65535."""
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if os.name != "nt":  # there it would allow a second server on one port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(128)
    except (OSError, OverflowError):
        found.close()
        raise
    return found


def reason(error: BaseException | None) -> str:
    """What the system says, without its number."""
    said = getattr(error, "strerror", None) or str(error)
    return said[:1].lower() + said[1:]


def configure(host: str) -> None:
    """Streamlit's settings, in code: nothing depends on the folder one starts from."""
    from streamlit import config

    from app import theme

    settings: dict[str, object] = {
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.maxUploadSize": 50,
        "browser.gatherUsageStats": False,
        "runner.magicEnabled": False,
        # A full collection after each run, over all that torch and the model brought, keeps every
        # other thread waiting: with a page that looks twice a second, loading took minutes.
        "runner.postScriptGC": False,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        # A page of another site whose name resolves to this machine must not read the store.
        "server.allowedHosts": list(LOOPBACK) if host in LOOPBACK else [],
    }
    for name, value in (settings | theme.options()).items():
        config.set_option(name, value)


def run(bound: socket.socket, host: str, announce: Callable[[], None]) -> None:
    """Serve on a bound socket until interrupted."""
    configure(host)
    import streamlit as st
    import uvicorn
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from app.components import graph
    from app.steer import telling

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                announce()

    app = st.App(MAIN, routes=[Route("/api/health", health), telling.ROUTE, graph.ROUTE])
    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=2
    )
    Server(settings).run(sockets=[bound])
