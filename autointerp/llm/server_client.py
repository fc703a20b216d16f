"""HTTP client of a language-model server: makes one attempt at one request through the openai
package, and turns the response, or what went wrong, into an attempt result."""

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
from autointerp.llm.reply_parser import (
    ReplyWithoutJson,
    UnreadableReply,
    begins_as_prose,
    find_text_at_max_length,
    parse_reply,
)
from autointerp.llm.request_format import RequestFormat
from autointerp.llm.requests_and_replies import (
    AttemptResult,
    ChatRequest,
    Reply,
    RequestFailure,
    TokenLogprob,
)
from autointerp.llm.server_settings import LlmServer
from autointerp.llm.text_repetition import repeats_itself
from autointerp.llm.token_prices import TokenPrice
from feature_store.storable_text import make_storable

MAX_REPLY_BYTES = 16_000_000
"""Maximum size in bytes of an HTTP response; log probabilities of long replies take megabytes."""
MAX_TEXT_CHARS = 100_000
"""Maximum number of characters of a reply's text; no question asks for more."""
MAX_TOKEN_COUNT = 1_000_000_000
LOGPROB_ROUNDING = 1e-3
"""Amount by which a log probability may exceed 0 through rounding."""
CONNECT_S = 10.0
FACTS_S = 5.0
"""Seconds that a request for the server's own facts may take; a slower server is used without
them."""
CONNECTIONS_PER_POOL = 8
"""Number of connections in one HTTP pool. A pool checks all its idle connections before each call,
so one pool of 64 would spend more time on that than on the calls."""
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
"""HTTP headers that a request may carry in addition to the API key."""


EXPECTED_ERRORS = (TimeoutError, openai.OpenAIError, httpx2.HTTPError, ValueError, RecursionError)
"""Exceptions in which an attempt at a request may end."""


class ServerClient:
    """HTTP client of one server, with the API key that belongs to its URL and the price of the
    model."""

    def __init__(
        self, server: LlmServer, pools: Sequence[openai.AsyncOpenAI], price: TokenPrice | None
    ) -> None:
        self.server = server
        self.price = price
        self._free = [pool for pool in pools for _ in range(CONNECTIONS_PER_POOL)]
        """One entry for each free connection; the last used connection is used next, while it is
        still open."""
        self._key = server.key()

    async def attempt(
        self, request: ChatRequest, request_format: RequestFormat, slot: CallSlot
    ) -> AttemptResult:
        """Send a request to the server once. Never raises for what the server does."""
        body, began = request_format.body(request), time.monotonic()
        try:
            async with slot.clock(self.server.timeout_s):
                response = await self._post(body)
        except EXPECTED_ERRORS as error:
            return server_faults.classify_client_error(
                error, self.server, request.model, self._make_safe
            )
        latency_s = time.monotonic() - began
        try:
            return self._read_response(self._make_json_safe(response), request, latency_s)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            return server_faults.not_a_completion(self.server, self._make_safe(str(response)))

    async def _post(self, body: dict[str, Any]) -> Any:
        """Post a request body to the server over HTTP, and return the JSON response. Raises what
        the openai package raises, or ValueError."""
        # the last used connection is still open, so no TLS handshake is needed
        pool = self._free.pop()
        try:
            post = pool.post("/chat/completions", body=body, cast_to=httpx2.Response)
            return (await post).json()
        finally:
            self._free.append(pool)

    async def get_json(self, url: str, with_key: bool) -> Any:
        """Return the JSON at a URL of the server, or None for any other response; waits at most
        FACTS_S seconds."""
        key = self._key if with_key else ""
        try:
            async with asyncio.timeout(FACTS_S), make_facts_client(key) as http:
                response = await http.get(url)
                return (
                    self._make_json_safe(response.json()) if response.status_code == 200 else None
                )
        except EXPECTED_ERRORS:
            return None

    def _read_response(
        self, response: dict[str, Any], request: ChatRequest, latency_s: float
    ) -> AttemptResult:
        """Return the attempt result of a complete HTTP response of the server."""
        if response.get("error"):  # some servers send errors with status 200
            return server_faults.error_inside_reply(
                self.server, self._make_safe(str(response["error"]))
            )
        choice = response["choices"][0]
        message = choice["message"]
        text: str = message.get("content") or ""
        if not isinstance(text, str):
            raise TypeError("content")
        usage = response.get("usage") or {}
        tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
        counted = all(type(n) is int and 0 <= n < MAX_TOKEN_COUNT for n in tokens)
        tokens_in, tokens_out = tokens if counted else (None, None)
        cost = self.price.cost_of(*tokens) if counted and self.price else None  # type: ignore[arg-type]
        logprobs = read_token_logprobs(choice) if request.logprobs else None
        facts = (logprobs, tokens_in, tokens_out, cost, latency_s)
        try:
            require_usable_reply(text, message.get("refusal"), choice.get("finish_reason"), request)
            reply = parse_answer(text, request, facts)
        except UnusableReply as why:
            return AttemptResult(why.failed, (text or why.text)[:MAX_TEXT_CHARS], *facts)
        except UnreadableReply as why:
            failed = RequestFailure(
                "unreadable", str(why), without_json=isinstance(why, ReplyWithoutJson)
            )
            return AttemptResult(failed, text, *facts)
        return AttemptResult(reply, text, *facts)

    def _make_safe(self, text: str) -> str:
        """Return a text that the server sent in a form that files can store, with the API key
        replaced by [key] should the server repeat it."""
        return make_storable(text.replace(self._key, "[key]") if self._key else text)

    def _make_json_safe(self, response: Any) -> Any:
        """Return JSON that the server sent, with every text in a form that files can store and
        without the API key."""
        if isinstance(response, str):
            return self._make_safe(response)
        if isinstance(response, list):
            return [self._make_json_safe(part) for part in response]
        if isinstance(response, dict):
            return {self._make_safe(str(k)): self._make_json_safe(v) for k, v in response.items()}
        return response


class UnusableReply(Exception):
    """Exception for a complete reply of a server that answers nothing, such as a refusal, an empty
    reply, or one that was cut off."""

    def __init__(self, failed: RequestFailure, text: str = "") -> None:
        super().__init__(failed.sentence)
        self.failed = failed
        self.text = text


def parse_answer(text: str, request: ChatRequest, facts: tuple[Any, ...]) -> Reply:
    """Return a complete reply with its parsed answer.

    Raises UnreadableReply where there is no answer, and UnusableReply for a text that the server
    ended at the maximum length of the JSON schema.
    """
    if request.schema is None:
        return Reply(text, None, *facts)
    value, form = parse_reply(text, request.schema)
    if bounded := find_text_at_max_length(value, request.schema):
        raise UnusableReply(
            cut_off_failure(bounded, f"the {len(bounded)} characters that were asked for")
        )
    return Reply(text, value, *facts, form=form)


def cut_off_failure(text: str, limit: str) -> RequestFailure:
    """Return the client's failure for a server reply that reached its limit: `repeats` where the
    text repeats itself, otherwise `cut off`."""
    end = f"it ended with {server_faults.shorten_line(text[-60:])!r}"
    if repeats_itself(text):
        return RequestFailure(
            "repeats", f"The reply repeated itself until it had reached {limit}: {end}."
        )
    return RequestFailure("cut off", f"The reply reached {limit} and was cut off: {end}.")


def require_usable_reply(
    text: str, refusal: str | None, finish: str | None, request: ChatRequest
) -> None:
    """Raise UnusableReply for a server reply that is a refusal, empty, cut off, or too large."""
    if refusal or finish == "content_filter":
        response = str(refusal or text)
        raise UnusableReply(
            RequestFailure(
                "refusal", f"The model refused: {server_faults.shorten_line(response)!r}."
            ),
            response,
        )
    if finish == "length":
        cut = cut_off_failure(text, f"max_tokens ({request.max_tokens})")
        prose = request.schema is not None and begins_as_prose(text)
        raise UnusableReply(replace(cut, without_json=prose))
    if not text.strip():
        raise UnusableReply(RequestFailure("empty", "The reply is empty."))
    if len(text) > MAX_TEXT_CHARS:
        sentence = f"The reply has {len(text):,} characters, more than {MAX_TEXT_CHARS:,}."
        raise UnusableReply(RequestFailure("too large", sentence))


def read_token_logprobs(choice: dict[str, Any]) -> tuple[TokenLogprob, ...] | None:
    """Return the tokens of a reply with their log probabilities; None where the server gives
    none."""
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
    """Return a token and its log probability from one entry of a server's reply. Raises ValueError
    for a number that is no log probability."""
    token, logprob = entry["token"], float(entry["logprob"])
    if not isinstance(token, str) or not logprob <= LOGPROB_ROUNDING:
        raise ValueError(f"{logprob} is no log probability")
    return token, min(logprob, 0.0)


@asynccontextmanager
async def connect_to_server(
    server: LlmServer, price: TokenPrice | None
) -> AsyncIterator[ServerClient]:
    """Open a client of a server until the block ends. Only the API key that is configured for the
    server's URL is sent to it."""
    key = server.key()
    async with AsyncExitStack() as stack:
        pools = [
            await stack.enter_async_context(make_connection_pool(server, key, load_certificates()))
            for _ in range(math.ceil(server.concurrency / CONNECTIONS_PER_POOL))
        ]
        yield ServerClient(server, pools, price)


def make_facts_client(key: str) -> httpx2.AsyncClient:
    """Return an HTTP client for reading what a server reports about itself."""
    return httpx2.AsyncClient(
        verify=load_certificates(),
        timeout=httpx2.Timeout(FACTS_S),
        follow_redirects=False,
        event_hooks={"request": [make_header_filter(key)], "response": [limit_reply_size]},
    )


@cache
def load_certificates() -> ssl.SSLContext:
    """Return the TLS certificates that the HTTP client trusts; they are read once, since reading
    them takes 15 ms."""
    return httpx2.create_ssl_context()


def make_connection_pool(
    server: LlmServer, key: str, believed: ssl.SSLContext
) -> openai.AsyncOpenAI:
    """Return an openai client with a small pool of connections to a server."""
    http = httpx2.AsyncClient(
        verify=believed,
        limits=httpx2.Limits(
            max_connections=CONNECTIONS_PER_POOL, max_keepalive_connections=CONNECTIONS_PER_POOL
        ),
        timeout=httpx2.Timeout(None, connect=CONNECT_S),  # the clock of the call's slot ends it
        follow_redirects=False,  # a redirect would get the prompt and perhaps the key
        event_hooks={"request": [make_header_filter(key)], "response": [limit_reply_size]},
    )
    return openai.AsyncOpenAI(
        api_key=key or "none", base_url=server.base_url, max_retries=0, http_client=http
    )


def make_header_filter(key: str) -> Callable[[httpx2.Request], Awaitable[None]]:
    """Return a hook that removes every header from a request except the allowed ones and the given
    API key.

    The openai package reads keys, organisations and headers from the environment, and would send
    them to any server.
    """

    async def strip(request: httpx2.Request) -> None:
        # the openai package adds headers of its own, an Authorization among them
        for name in set(request.headers) - ALLOWED_HEADERS:
            del request.headers[name]
        if key:
            request.headers["Authorization"] = f"Bearer {key}"

    return strip


async def limit_reply_size(response: httpx2.Response) -> None:
    """Make an HTTP response of the server stop in an error after MAX_REPLY_BYTES."""
    stream = response.stream
    assert isinstance(stream, httpx2.AsyncByteStream)
    response.stream = SizeLimitedStream(stream)


class SizeLimitedStream(httpx2.AsyncByteStream):
    """HTTP response stream of the server client that raises an error after MAX_REPLY_BYTES."""

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
