"""Refuse requests that a page of another site sent, before any route answers them.

A browser lets every site send requests to this machine. Two checks keep such a site from reading
the store. The Host header must name this server: a foreign name that resolves to this machine (DNS
rebinding) is refused. The Origin header, which browsers add to websockets and to requests of other
sites, must be this server itself: another site, or a program on another local port, is refused.
"""

import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
POLICY_VIOLATION = 1008
"""Code with which a websocket is closed (RFC 6455, section 7.4.1)."""


@dataclass(frozen=True)
class HostRule:
    """Which names of this server are answered."""

    names: frozenset[str]
    """Host names and addresses, in lower case."""
    any_address: bool = False
    """Whether every literal address is answered too. A page cannot forge one by its DNS."""
    extra: frozenset[str] = frozenset()
    """Names that the owner added, for instance that of a reverse proxy."""

    @classmethod
    def for_server(cls, host: str, extra: tuple[str, ...] = ()) -> "HostRule":
        """Make the rule of a server that is bound to `host`, with `extra` names of its owner."""
        added = frozenset(name.lower().rstrip(".") for name in extra)
        if is_loopback(host):
            return cls(frozenset({*LOOPBACK_NAMES, host.lower()}), extra=added)
        own = {host.lower(), socket.gethostname().lower(), *LOOPBACK_NAMES}
        return cls(frozenset(own | {f"{name}.local" for name in own}), True, added)

    def allows(self, host: str) -> bool:
        """Return whether a Host header, with or without a port, names this server."""
        parts = split_netloc(host)
        if parts is None or not parts.hostname:
            return False
        name = parts.hostname.rstrip(".")
        if name in self.names or name in self.extra:
            return True
        return self.any_address and is_address(name)

    def allows_origin(self, origin: str, host: str) -> bool:
        """Return whether an Origin header is that of this server's own pages."""
        try:
            parts = urlsplit(origin)
            port = parts.port or DEFAULT_PORTS.get(parts.scheme)
        except ValueError:
            return False
        there = split_netloc(host)
        if not parts.hostname or there is None:
            return False
        if parts.hostname.rstrip(".") in self.extra:
            return True
        own_port = there.port or DEFAULT_PORTS.get(parts.scheme)
        return (parts.hostname, port) == (there.hostname, own_port)


def is_loopback(host: str) -> bool:
    """Return whether a server that is bound to `host` can be reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    return is_address(host) and ipaddress.ip_address(host).is_loopback


def is_address(name: str) -> bool:
    """Return whether a name is a literal IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def split_netloc(host: str) -> SplitResult | None:
    """Split `name:port` of a Host header; None where it is anything else."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises where it is no number or out of range
    except ValueError:
        return None
    clean = parts.netloc == host and parts.username is None and not parts.path
    return parts if clean else None


class RequestGuard:
    """ASGI middleware that answers 403 to requests of other sites, and closes their websockets."""

    def __init__(self, app: "ASGIApp", rule: HostRule) -> None:
        self.app, self.rule = app, rule

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        problem = self._find_problem(scope)
        if not problem:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()  # the connection must be heard before it may be refused
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": problem})
        else:
            from starlette.responses import PlainTextResponse

            await PlainTextResponse(problem + "\n", status_code=403)(scope, receive, send)

    def _find_problem(self, scope: "Scope") -> str:
        """Return why a request is refused; empty where it is not."""
        headers = scope["headers"]
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        if len(hosts) != 1 or not self.rule.allows(hosts[0]):
            return (
                "This server does not answer to the name in the address. Use the address that it "
                "printed, or start it with: saefari app --allow-host NAME"
            )
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        if any(not self.rule.allows_origin(origin, hosts[0]) for origin in origins):
            return "Requests from pages of other sites are refused."
        return ""
