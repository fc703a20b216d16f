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

from autointerp.llm import server_faults
from autointerp.llm.concurrency_limit import CallSlot
from autointerp.llm.records import AttemptResult, ChatRequest, Reply, RequestFailure, TokenLogprob
from autointerp.llm.reply_parser import (
    ReplyWithoutJson,
    UnreadableReply,
    begins_as_prose,
    find_text_at_max_length,
    parse_reply,
)
from autointerp.llm.request_format import RequestFormat
from autointerp.llm.server_settings import LlmServer
from autointerp.llm.text_repetition import repeats_itself
from autointerp.llm.token_prices import TokenPrice
from feature_store.storable_text import make_storable

MAX_REPLY_BYTES = 16_000_000
"""Of a reply with everything around it; log probabilities of long replies are megabytes."""
MAX_TEXT_CHARS = 100_000
"""Characters of a text that anybody asked for."""
MAX_TOKEN_COUNT = 1_000_000_000
LOGPROB_ROUNDING = 1e-3
"""How far above 0 a log probability may be."""
CONNECT_S = 10.0
FACTS_S = 5.0
"""For what a server says of itself; where it takes longer, it is done without."""
CONNECTIONS_PER_POOL = 8
"""Connections that one pool has: it looks at all that are idle before each call, so that one pool
of 64 would spend more time on this than on the calls."""
ALLOWED_HEADERS = {
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


EXPECTED_ERRORS = (TimeoutError, openai.OpenAIError, httpx2.HTTPError, ValueError, RecursionError)
"""What an attempt may end in."""


class ServerClient:
    """A server, with the key that belongs to it, and a price."""

    def __init__(
        self, server: LlmServer, pools: Sequence[openai.AsyncOpenAI], price: TokenPrice | None
    ) -> None:
        self.server = server
        self.price = price
        self._free = [pool for pool in pools for _ in range(CONNECTIONS_PER_POOL)]
        """One entry for each connection that is free; the last used is used next, still warm."""
        self._key = server.key()

    async def attempt(
        self, request: ChatRequest, dialect: RequestFormat, slot: CallSlot
    ) -> AttemptResult:
        """Ask once. Never raises for what a server does."""
        body, began = dialect.body(request), time.monotonic()
        try:
            async with slot.clock(self.server.timeout_s):
                said = await self._post(body)
        except EXPECTED_ERRORS as error:
            return server_faults.classify_client_error(
                error, self.server, request.model, self._clean
            )
        latency_s = time.monotonic() - began
        try:
            return self._read(self._cleaned(said), request, latency_s)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            return server_faults.not_a_completion(self.server, self._clean(str(said)))

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
            async with asyncio.timeout(FACTS_S), make_facts_client(key) as http:
                response = await http.get(url)
                return self._cleaned(response.json()) if response.status_code == 200 else None
        except EXPECTED_ERRORS:
            return None

    def _read(self, said: dict[str, Any], request: ChatRequest, latency_s: float) -> AttemptResult:
        """A whole reply of the server's."""
        if said.get("error"):  # some send it with status 200
            return server_faults.error_inside_reply(self.server, self._clean(str(said["error"])))
        choice = said["choices"][0]
        message = choice["message"]
        text: str = message.get("content") or ""
        if not isinstance(text, str):
            raise TypeError("content")
        usage = said.get("usage") or {}
        tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
        counted = all(type(n) is int and 0 <= n < MAX_TOKEN_COUNT for n in tokens)
        tokens_in, tokens_out = tokens if counted else (None, None)
        cost = self.price.of(*tokens) if counted and self.price else None  # type: ignore[arg-type]
        logprobs = read_token_logprobs(choice) if request.logprobs else None
        facts = (logprobs, tokens_in, tokens_out, cost, latency_s)
        try:
            require_usable_reply(text, message.get("refusal"), choice.get("finish_reason"), request)
            reply = parse_answer(text, request, facts)
        except UnusableReply as why:
            return AttemptResult(why.failed, (text or why.said)[:MAX_TEXT_CHARS], *facts)
        except UnreadableReply as why:
            failed = RequestFailure(
                "unreadable", str(why), formless=isinstance(why, ReplyWithoutJson)
            )
            return AttemptResult(failed, text, *facts)
        return AttemptResult(reply, text, *facts)

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


class UnusableReply(Exception):
    """A whole reply that answers nothing."""

    def __init__(self, failed: RequestFailure, said: str = "") -> None:
        super().__init__(failed.sentence)
        self.failed = failed
        self.said = said


def parse_answer(text: str, request: ChatRequest, facts: tuple[Any, ...]) -> Reply:
    """Return a whole reply with its answer. Raises Unreadable for none, Unusable for one that the
    server ended at the length that the schema allows."""
    if request.schema is None:
        return Reply(text, None, *facts)
    value, form = parse_reply(text, request.schema)
    if bounded := find_text_at_max_length(value, request.schema):
        raise UnusableReply(
            cut_off_failure(bounded, f"the {len(bounded)} characters that were asked for")
        )
    return Reply(text, value, *facts, form=form)


def cut_off_failure(text: str, limit: str) -> RequestFailure:
    """Return the failure of a text that came to its limit, by whether it goes round in circles."""
    end = f"it ended with {server_faults.shorten_line(text[-60:])!r}"
    if repeats_itself(text):
        return RequestFailure(
            "repeats", f"The reply repeated itself until it had reached {limit}: {end}."
        )
    return RequestFailure("cut off", f"The reply reached {limit} and was cut off: {end}.")


def require_usable_reply(
    text: str, refusal: str | None, finish: str | None, request: ChatRequest
) -> None:
    """Raises Unusable for a refusal, an empty reply, one cut off or one too large."""
    if refusal or finish == "content_filter":
        said = str(refusal or text)
        raise UnusableReply(
            RequestFailure("refusal", f"The model refused: {server_faults.shorten_line(said)!r}."),
            said,
        )
    if finish == "length":
        cut = cut_off_failure(text, f"max_tokens ({request.max_tokens})")
        prose = request.schema is not None and begins_as_prose(text)
        raise UnusableReply(replace(cut, formless=prose))
    if not text.strip():
        raise UnusableReply(RequestFailure("empty", "The reply is empty."))
    if len(text) > MAX_TEXT_CHARS:
        sentence = f"The reply has {len(text):,} characters, more than {MAX_TEXT_CHARS:,}."
        raise UnusableReply(RequestFailure("too large", sentence))


def read_token_logprobs(choice: dict[str, Any]) -> tuple[TokenLogprob, ...] | None:
    """The tokens of a reply with their log probabilities; None where the server gives none."""
    content = (choice.get("logprobs") or {}).get("content")
    if not content:
        return None
    return tuple(
        TokenLogprob(
            *read_logprob_entry(token),
            tuple(read_logprob_entry(top) for top in token.get("top_logprobs") or ()),
        )
        for token in content
    )


def read_logprob_entry(entry: dict[str, Any]) -> tuple[str, float]:
    """A token and its log probability. Raises ValueError for what is none."""
    token, logprob = entry["token"], float(entry["logprob"])
    if not isinstance(token, str) or not logprob <= LOGPROB_ROUNDING:
        raise ValueError(f"{logprob} is no log probability")
    return token, min(logprob, 0.0)


@asynccontextmanager
async def connect_to_server(
    server: LlmServer, price: TokenPrice | None
) -> AsyncIterator[ServerClient]:
    """A client until the block ends. The server gets the key bound to it, or none at all."""
    key = server.key()
    async with AsyncExitStack() as stack:
        pools = [
            await stack.enter_async_context(make_connection_pool(server, key, load_certificates()))
            for _ in range(math.ceil(server.concurrency / CONNECTIONS_PER_POOL))
        ]
        yield ServerClient(server, pools, price)


def make_facts_client(key: str) -> httpx2.AsyncClient:
    """A connection for looking at what a server says of itself."""
    return httpx2.AsyncClient(
        verify=load_certificates(),
        timeout=httpx2.Timeout(FACTS_S),
        follow_redirects=False,
        event_hooks={"request": [make_header_filter(key)], "response": [limit_reply_size]},
    )


@cache
def load_certificates() -> ssl.SSLContext:
    """The certificates that are believed: read once, as it takes 15 ms."""
    return httpx2.create_ssl_context()


def make_connection_pool(
    server: LlmServer, key: str, believed: ssl.SSLContext
) -> openai.AsyncOpenAI:
    """A few connections to a server."""
    http = httpx2.AsyncClient(
        verify=believed,
        limits=httpx2.Limits(
            max_connections=CONNECTIONS_PER_POOL, max_keepalive_connections=CONNECTIONS_PER_POOL
        ),
        timeout=httpx2.Timeout(None, connect=CONNECT_S),  # a slot's clock ends the call
        follow_redirects=False,  # to wherever, with the prompt and perhaps the key
        event_hooks={"request": [make_header_filter(key)], "response": [limit_reply_size]},
    )
    return openai.AsyncOpenAI(
        api_key=key or "none", base_url=server.base_url, max_retries=0, http_client=http
    )


def make_header_filter(key: str) -> Callable[[httpx2.Request], Awaitable[None]]:
    """What sees to it that a request carries the key given here or none, and nothing else.

    The openai package reads keys, organisations and headers out of the environment, and would send
    them to any server.
    """

    async def strip(request: httpx2.Request) -> None:
        for name in set(request.headers) - ALLOWED_HEADERS:
            del request.headers[name]
        if key:
            request.headers["Authorization"] = f"Bearer {key}"

    return strip


async def limit_reply_size(response: httpx2.Response) -> None:
    """Stop reading a reply that goes on and on."""
    stream = response.stream
    assert isinstance(stream, httpx2.AsyncByteStream)
    response.stream = SizeLimitedStream(stream)


class SizeLimitedStream(httpx2.AsyncByteStream):
    """A stream that ends in an error after MOST_BYTES."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read_bytes = 0
        async for chunk in self._stream:
            read_bytes += len(chunk)
            if read_bytes > MAX_REPLY_BYTES:
                raise httpx2.ReadError(f"The reply is larger than {MAX_REPLY_BYTES:,} bytes.")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
