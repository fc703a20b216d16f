"""Requests that pages of other sites send are refused before any route sees them."""

import asyncio
import http.client
import socket
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from app import serve
from app.request_guard import HostRule, RequestGuard, is_loopback

LOCAL = HostRule.for_server("127.0.0.1")
OPEN = HostRule.for_server("0.0.0.0", ("Proxy.example.org.", "proxy"))


@pytest.mark.parametrize(
    ("rule", "host", "answered"),
    [
        (LOCAL, "localhost:8501", True),
        (LOCAL, "LOCALHOST", True),
        (LOCAL, "127.0.0.1:8501", True),
        (LOCAL, "[::1]:8501", True),
        (LOCAL, "localhost.:8501", True),
        (LOCAL, "evil.example.org:8501", False),
        (LOCAL, "localhost.evil.example.org", False),
        (LOCAL, "192.168.1.7:8501", False),
        (LOCAL, "", False),
        (LOCAL, "localhost:port", False),
        (LOCAL, "localhost:99999", False),
        (LOCAL, "user@localhost", False),
        (LOCAL, "localhost/path", False),
        (LOCAL, "[::1", False),
        (OPEN, "192.168.1.7:8501", True),
        (OPEN, "[fe80::1]:8501", True),
        (OPEN, "proxy.example.org", True),
        (OPEN, "evil.example.org", False),
        (OPEN, socket.gethostname().lower(), True),
    ],
)
def test_a_server_answers_to_its_own_names(rule: HostRule, host: str, answered: bool) -> None:
    assert rule.allows(host) is answered


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://localhost:8501", "localhost:8501", True),
        ("http://localhost:9999", "localhost:8501", False),
        ("http://127.0.0.1:8501", "localhost:8501", False),
        ("http://localhost", "localhost:80", True),
        ("https://localhost", "localhost", True),
        ("https://evil-site", "localhost:8501", False),
        ("null", "localhost:8501", False),
        ("", "localhost:8501", False),
        ("http://localhost:port", "localhost:8501", False),
    ],
)
def test_only_the_servers_own_pages_may_speak_to_it(origin: str, host: str, same: bool) -> None:
    assert LOCAL.allows_origin(origin, host) is same


def test_a_proxy_that_the_owner_named_may_rewrite_the_host() -> None:
    assert OPEN.allows_origin("https://proxy", "127.0.0.1:8501")


@pytest.mark.parametrize(
    ("host", "only_here"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.2", False),
        ("example.org", False),
    ],
)
def test_which_addresses_others_can_reach(host: str, only_here: bool) -> None:
    assert is_loopback(host) is only_here


def ask_guard(kind: str, *headers: tuple[str, str]) -> tuple[bool, list[Any]]:
    """Send one request through the guard: whether a route saw it, and what was answered."""
    seen, sent = [], []

    async def route(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    async def receive() -> Any:
        return {"type": f"{kind}.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": kind, "headers": raw, "method": "GET", "path": "/"}
    asyncio.run(RequestGuard(route, LOCAL)(scope, receive, send))  # type: ignore[arg-type]
    return bool(seen), sent


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("headers", "reaches"),
    [
        ([("host", "localhost:8501")], True),
        ([("host", "localhost:8501"), ("origin", "http://localhost:8501")], True),
        ([("host", "localhost:8501"), ("origin", "http://localhost:9999")], False),
        ([("host", "evil.example.org")], False),
        ([], False),
        ([("host", "localhost"), ("host", "evil.example.org")], False),
    ],
)
def test_no_route_sees_a_refused_request(
    kind: str, headers: list[tuple[str, str]], reaches: bool
) -> None:
    seen, sent = ask_guard(kind, *headers)
    assert seen is reaches
    if not reaches and kind == "http":
        assert sent[0]["status"] == 403
    if not reaches and kind == "websocket":
        assert [one["type"] for one in sent] == ["websocket.close"]


def test_the_socket_is_one_on_which_small_answers_are_sent_at_once() -> None:
    """asyncio sets TCP_NODELAY only where the socket names TCP as its protocol."""
    for host in ("127.0.0.1", "::1"):
        bound = serve.bind(host, 0)
        assert bound.proto == socket.IPPROTO_TCP
        bound.close()


@pytest.fixture(scope="module")
def address(plain: tuple[str, Path]) -> tuple[str, int]:
    name, _, port = plain[0].removeprefix("http://").partition(":")
    return name, int(port)


@pytest.mark.process
def test_a_kept_connection_answers_at_once(address: tuple[str, int]) -> None:
    """An answer that waited for a delayed acknowledgement took 44 ms; the law allows 10."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    took = []
    for _ in range(60):
        begun = time.perf_counter()
        connection.request("GET", "/api/health")
        assert connection.getresponse().read() == b'{"status":"ok"}'
        took.append(time.perf_counter() - begun)
    connection.close()
    assert statistics.quantiles(took, n=10)[0] < 0.010


@pytest.mark.process
@pytest.mark.parametrize("path", ["/", "/api/health", "/_stcore/health", "/_stcore/host-config"])
def test_every_route_is_guarded(address: tuple[str, int], path: str) -> None:
    for headers, status in (
        ({}, 200),
        ({"Host": "evil.example.org"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
    ):
        connection = http.client.HTTPConnection(*address, timeout=30)
        connection.request("GET", path, headers=headers)
        assert connection.getresponse().status == status
        connection.close()


@pytest.mark.process
def test_the_websocket_of_another_local_port_is_closed(address: tuple[str, int]) -> None:
    name, port = address
    for origin, status in ((f"http://{name}:{port}", b"101"), (f"http://{name}:1", b"403")):
        with socket.create_connection(address, timeout=30) as link:
            link.sendall(
                f"GET /_stcore/stream HTTP/1.1\r\nHost: {name}:{port}\r\nOrigin: {origin}\r\n"
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            assert link.recv(64).split()[1] == status
