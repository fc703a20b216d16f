"""The pages as a local web server."""

import os
import socket
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

from app.request_guard import LOOPBACK_NAMES, HostRule, RequestGuard, is_loopback
from backend.model.memory_budget import (
    DICTIONARY_MEMORY_VARIABLE,
    MODEL_MEMORY_VARIABLE,
    check_memory_budgets,
)
from feature_store.errors import InputError
from feature_store.permissions import set_costly_work_allowed, set_pages_shared
from feature_store.store import Store

FIRST_PORT, PORTS = 8501, 50
MAIN = Path(__file__).with_name("main.py")


def serve(
    store: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = True,
    ready: Callable[[str], None] = lambda url: None,
    allow_jobs: bool = False,
    allow_hosts: tuple[str, ...] = (),
    model_memory: int | None = None,
    dictionary_memory: int | None = None,
) -> None:
    """Serve the pages of `store` until Ctrl-C; `ready` gets the URL once they answer.

    Without a port the first free one from 8501 on is taken. Where other people can reach the
    pages, these start no costly work (it would be a stranger's use of this machine and of its
    owner's API keys) unless `allow_jobs`. `allow_hosts` are further names under which browsers
    may address the server. `model_memory` and `dictionary_memory` are the bytes of weights that
    are kept in memory; without them the environment's or the default shares.
    Raises InputError for a folder that is no store, for a port that is taken, and for sizes in the
    environment that are none.
    """
    Store(store)  # say what is wrong before anything starts
    for name, size in (
        (MODEL_MEMORY_VARIABLE, model_memory),
        (DICTIONARY_MEMORY_VARIABLE, dictionary_memory),
    ):
        if size is not None:
            os.environ[name] = str(size)
    check_memory_budgets()
    bound = listen(host, port)
    os.environ["SAEFARI_STORE"] = str(store.resolve())
    local = is_loopback(host)
    set_costly_work_allowed(allow_jobs or local)
    set_pages_shared(not local)
    shown = "localhost" if host in LOOPBACK_NAMES else f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{bound.getsockname()[1]}"

    def announce() -> None:
        ready(url)
        if open_browser:
            threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()

    try:
        run(bound, HostRule.for_server(host, allow_hosts), announce)
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
    """Return a listening socket. Raises OSError where it may not, OverflowError beyond 65535.

    The protocol is named: asyncio turns Nagle's algorithm off only for sockets whose protocol is
    TCP, and with it on, answers on kept connections wait some 40 ms for an acknowledgement.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name != "nt":  # there it would allow a second server on one port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(128)
    except UnicodeError as error:
        found.close()
        raise OSError(0, "this is no name of a host") from error
    except (OSError, OverflowError):
        found.close()
        raise
    return found


def reason(error: BaseException | None) -> str:
    """What the system says, without its number."""
    said = getattr(error, "strerror", None) or str(error)
    return said[:1].lower() + said[1:]


def configure(rule: HostRule) -> None:
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
        # Streamlit's own check of websockets, beside `RequestGuard`.
        "server.allowedHosts": [] if rule.any_address else sorted(rule.names | rule.extra),
    }
    for name, value in (settings | theme.options()).items():
        config.set_option(name, value)


def run(bound: socket.socket, rule: HostRule, announce: Callable[[], None]) -> None:
    """Serve on a bound socket until interrupted, to the names of `rule`."""
    configure(rule)
    import streamlit as st
    import uvicorn
    from starlette.middleware import Middleware
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

    app = st.App(
        MAIN,
        routes=[Route("/api/health", health), telling.ROUTE, graph.ROUTE],
        middleware=[Middleware(RequestGuard, rule=rule)],
    )
    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=2
    )
    Server(settings).run(sockets=[bound])
