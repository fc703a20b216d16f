"""One attempt at one request, through the openai package: what comes back, or what went wrong."""

import asyncio
import math
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import httpx2
import openai

from autointerp.asking import faults
from autointerp.asking.dialect import Dialect
from autointerp.asking.limiter import CallSlot
from autointerp.asking.prices import Price
from autointerp.asking.reading import Formless, Unreadable, at_bound, begins_as_prose, read_reply
from autointerp.asking.records import Came, Failed, Reply, Request, Said
from autointerp.asking.repetition import repeats_itself
from autointerp.asking.servers import Server
from feature_store.storable_text import make_storable

MOST_BYTES = 16_000_000
"""Of a reply with everything around it; log probabilities of long replies are megabytes."""
MOST_TEXT = 100_000
"""Characters of a text that anybody asked for."""
MOST_TOKENS = 1_000_000_000
ROUNDING = 1e-3
"""How far above 0 a log probability may be."""
CONNECT_S = 10.0
FACTS_S = 5.0
"""For what a server says of itself; where it takes longer, it is done without."""
POOL = 8
"""Connections that one pool has: it looks at all that are idle before each call, so that one pool
of 64 would spend more time on this than on the calls."""
HEADERS = {
    "host",
    "accept",
    "accept-encoding",
    "connection",
    "content-type",
    "content-length",
    "transfer-encoding",
    "user-agent",
}
"""What a request may carry beside the key."""


EXPECTED = (TimeoutError, openai.OpenAIError, httpx2.HTTPError, ValueError, RecursionError)
"""What an attempt may end in."""


class Client:
    """A server, with the key that belongs to it, and a price."""

    def __init__(
        self, server: Server, pools: Sequence[openai.AsyncOpenAI], price: Price | None
    ) -> None:
        self.server = server
        self.price = price
        self._free = [pool for pool in pools for _ in range(POOL)]
        """One entry for each connection that is free; the last used is used next, still warm."""
        self._key = server.key()

    async def attempt(self, request: Request, dialect: Dialect, slot: CallSlot) -> Came:
        """Ask once. Never raises for what a server does."""
        body, began = dialect.body(request), time.monotonic()
        try:
            async with slot.clock(self.server.timeout_s):
                said = await self._post(body)
        except EXPECTED as error:
            return faults.came(error, self.server, request.model, self._clean)
        latency_s = time.monotonic() - began
        try:
            return self._read(self._cleaned(said), request, latency_s)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            return faults.unlike(self.server, self._clean(str(said)))

    async def _post(self, body: dict[str, Any]) -> Any:
        """The JSON that comes back. Raises what the openai package raises, or ValueError."""
        pool = self._free.pop()
        try:
            post = pool.post("/chat/completions", body=body, cast_to=httpx2.Response)
            return (await post).json()
        finally:
            self._free.append(pool)

    async def get_json(self, url: str, with_key: bool) -> Any:
        """The JSON at a URL, or None where there is no such thing; waits FACTS_S at most."""
        key = self._key if with_key else ""
        try:
            async with asyncio.timeout(FACTS_S), plain_client(key) as http:
                response = await http.get(url)
                return self._cleaned(response.json()) if response.status_code == 200 else None
        except EXPECTED:
            return None

    def _read(self, said: dict[str, Any], request: Request, latency_s: float) -> Came:
        """A whole reply of the server's."""
        if said.get("error"):  # some send it with status 200
            return faults.inside(self.server, self._clean(str(said["error"])))
        choice = said["choices"][0]
        message = choice["message"]
        text: str = message.get("content") or ""
        if not isinstance(text, str):
            raise TypeError("content")
        usage = said.get("usage") or {}
        tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
        counted = all(type(n) is int and 0 <= n < MOST_TOKENS for n in tokens)
        tokens_in, tokens_out = tokens if counted else (None, None)
        cost = self.price.of(*tokens) if counted and self.price else None  # type: ignore[arg-type]
        logprobs = said_tokens(choice) if request.logprobs else None
        facts = (logprobs, tokens_in, tokens_out, cost, latency_s)
        try:
            usable(text, message.get("refusal"), choice.get("finish_reason"), request)
            reply = read_answer(text, request, facts)
        except Unusable as why:
            return Came(why.failed, (text or why.said)[:MOST_TEXT], *facts)
        except Unreadable as why:
            failed = Failed("unreadable", str(why), formless=isinstance(why, Formless))
            return Came(failed, text, *facts)
        return Came(reply, text, *facts)

    def _clean(self, text: str) -> str:
        """Return a text without the key, should a server repeat it, that can be stored."""
        return make_storable(text.replace(self._key, "[key]") if self._key else text)

    def _cleaned(self, said: Any) -> Any:
        """The same for everything that a server said."""
        if isinstance(said, str):
            return self._clean(said)
        if isinstance(said, list):
            return [self._cleaned(part) for part in said]
        if isinstance(said, dict):
            return {self._clean(str(k)): self._cleaned(v) for k, v in said.items()}
        return said


class Unusable(Exception):
    """A whole reply that answers nothing."""

    def __init__(self, failed: Failed, said: str = "") -> None:
        super().__init__(failed.sentence)
        self.failed = failed
        self.said = said


def read_answer(text: str, request: Request, facts: tuple[Any, ...]) -> Reply:
    """Return a whole reply with its answer. Raises Unreadable for none, Unusable for one that the
    server ended at the length that the schema allows."""
    if request.schema is None:
        return Reply(text, None, *facts)
    value, form = read_reply(text, request.schema)
    if bounded := at_bound(value, request.schema):
        raise Unusable(endless(bounded, f"the {len(bounded)} characters that were asked for"))
    return Reply(text, value, *facts, form=form)


def endless(text: str, limit: str) -> Failed:
    """Return the failure of a text that came to its limit, by whether it goes round in circles."""
    end = f"it ended with {faults.short(text[-60:])!r}"
    if repeats_itself(text):
        return Failed("repeats", f"The reply repeated itself until it had reached {limit}: {end}.")
    return Failed("cut off", f"The reply reached {limit} and was cut off: {end}.")


def usable(text: str, refusal: str | None, finish: str | None, request: Request) -> None:
    """Raises Unusable for a refusal, an empty reply, one cut off or one too large."""
    if refusal or finish == "content_filter":
        said = str(refusal or text)
        raise Unusable(Failed("refusal", f"The model refused: {faults.short(said)!r}."), said)
    if finish == "length":
        cut = endless(text, f"max_tokens ({request.max_tokens})")
        prose = request.schema is not None and begins_as_prose(text)
        raise Unusable(replace(cut, formless=prose))
    if not text.strip():
        raise Unusable(Failed("empty", "The reply is empty."))
    if len(text) > MOST_TEXT:
        sentence = f"The reply has {len(text):,} characters, more than {MOST_TEXT:,}."
        raise Unusable(Failed("too large", sentence))


def said_tokens(choice: dict[str, Any]) -> tuple[Said, ...] | None:
    """The tokens of a reply with their log probabilities; None where the server gives none."""
    content = (choice.get("logprobs") or {}).get("content")
    if not content:
        return None
    return tuple(
        Said(*heard(token), tuple(heard(top) for top in token.get("top_logprobs") or ()))
        for token in content
    )


def heard(entry: dict[str, Any]) -> tuple[str, float]:
    """A token and its log probability. Raises ValueError for what is none."""
    token, logprob = entry["token"], float(entry["logprob"])
    if not isinstance(token, str) or not logprob <= ROUNDING:
        raise ValueError(f"{logprob} is no log probability")
    return token, min(logprob, 0.0)


@asynccontextmanager
async def connect(server: Server, price: Price | None) -> AsyncIterator[Client]:
    """A client until the block ends. The server gets the key bound to it, or none at all."""
    key = server.key()
    async with AsyncExitStack() as stack:
        pools = [
            await stack.enter_async_context(pool(server, key, trust()))
            for _ in range(math.ceil(server.concurrency / POOL))
        ]
        yield Client(server, pools, price)


def plain_client(key: str) -> httpx2.AsyncClient:
    """A connection for looking at what a server says of itself."""
    return httpx2.AsyncClient(
        verify=trust(),
        timeout=httpx2.Timeout(FACTS_S),
        follow_redirects=False,
        event_hooks={"request": [only(key)], "response": [cap]},
    )


@cache
def trust() -> ssl.SSLContext:
    """The certificates that are believed: read once, as it takes 15 ms."""
    return httpx2.create_ssl_context()


def pool(server: Server, key: str, believed: ssl.SSLContext) -> openai.AsyncOpenAI:
    """A few connections to a server."""
    http = httpx2.AsyncClient(
        verify=believed,
        limits=httpx2.Limits(max_connections=POOL, max_keepalive_connections=POOL),
        timeout=httpx2.Timeout(None, connect=CONNECT_S),  # a slot's clock ends the call
        follow_redirects=False,  # to wherever, with the prompt and perhaps the key
        event_hooks={"request": [only(key)], "response": [cap]},
    )
    return openai.AsyncOpenAI(
        api_key=key or "none", base_url=server.base_url, max_retries=0, http_client=http
    )


def only(key: str) -> Callable[[httpx2.Request], Awaitable[None]]:
    """What sees to it that a request carries the key given here or none, and nothing else.

    The openai package reads keys, organisations and headers out of the environment, and would send
    them to any server.
    """

    async def strip(request: httpx2.Request) -> None:
        for name in set(request.headers) - HEADERS:
            del request.headers[name]
        if key:
            request.headers["Authorization"] = f"Bearer {key}"

    return strip


async def cap(response: httpx2.Response) -> None:
    """Stop reading a reply that goes on and on."""
    stream = response.stream
    assert isinstance(stream, httpx2.AsyncByteStream)
    response.stream = Capped(stream)


class Capped(httpx2.AsyncByteStream):
    """A stream that ends in an error after MOST_BYTES."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read_bytes = 0
        async for chunk in self._stream:
            read_bytes += len(chunk)
            if read_bytes > MOST_BYTES:
                raise httpx2.ReadError(f"The reply is larger than {MOST_BYTES:,} bytes.")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
