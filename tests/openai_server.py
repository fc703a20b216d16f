"""An OpenAI-compatible server on loopback that answers by rules, and misbehaves on request.

A rule takes the request's JSON body and gives the text of the reply, a `Fault`, or `Said` for a
reply with logprobs or counted tokens. `serve(rule)` runs it in a thread; `python -m
tests.openai_server` runs one that answers everything alike, as a process of its own.
"""

import argparse
import asyncio
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]
REASONS = {
    200: "OK",
    302: "Found",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
}


@dataclass(frozen=True)
class Said:
    """A reply in full."""

    text: str | None
    logprobs: list[dict[str, Any]] | None = None
    """`choices[0].logprobs.content` as OpenAI writes it; see `logprobs`."""
    tokens_in: int | None = 100
    """None leaves `usage` out."""
    tokens_out: int | None = 10
    finish: str = "stop"
    refusal: str | None = None
    delay_s: float = 0.0


@dataclass(frozen=True)
class Fault:
    """A way to fail: an HTTP status, or one of `hang`, `reset`, `half`, `garbage`, `redirect`."""

    status: int = 200
    kind: str = ""
    message: str = "This server was told to fail."
    code: str | None = None
    retry_after: str | None = None


@dataclass(frozen=True)
class Recorded:
    """What a real server answered, word for word; see tests/replies."""

    status: int
    reply: Any
    """JSON, or a text that is none."""


Rule = Callable[[Body], str | Said | Fault | Recorded]

UNAUTHORIZED = Fault(401, message="Incorrect API key provided.", code="invalid_api_key")
NO_MODEL = Fault(404, message="The model `m` does not exist.", code="model_not_found")
RATE_LIMITED = Fault(429, message="Rate limit reached.", code="rate_limit_exceeded")
NO_CREDIT = Fault(429, message="You exceeded your current quota.", code="insufficient_quota")
BROKEN = Fault(500, message="The server had an error.")
HANG, RESET, HALF = Fault(kind="hang"), Fault(kind="reset"), Fault(kind="half")
GARBAGE = Fault(kind="garbage")
"""Status 200 and a body that is no JSON."""
REDIRECT = Fault(302, kind="redirect")
REFUSAL = Said(None, refusal="I cannot help with that.")
EMPTY = Said("")
HUGE = Said('{"text": "' + "x" * 1_000_000 + '"}', tokens_out=250_000)
CUT_OFF = Said('{"text": "half of a sen', finish="length")


def then(faults: Sequence[Fault | Said], rule: Rule) -> Rule:
    """First these, one a request, then the rule."""
    left = list(faults)
    return lambda body: left.pop(0) if left else rule(body)


def always(reply: str | Said | Fault) -> Rule:
    """The same to everyone."""
    return lambda body: reply


def asked(body: Body) -> str:
    """All texts of a request's messages."""
    return "\n".join(str(message["content"]) for message in body["messages"])


# Judges: `truth` reads out of a request what the right answers are, in the order asked;
# `write` turns answers into the reply's text.
Truth = Callable[[Body], Sequence[bool]]
Write = Callable[[Sequence[bool]], str | Said]


def digits(answers: Sequence[bool]) -> str:
    """`{"answers": [1, 0, …]}`."""
    return json.dumps({"answers": [int(answer) for answer in answers]})


def perfect(truth: Truth, write: Write = digits) -> Rule:
    """Always right."""
    return lambda body: write(list(truth(body)))


def inverted(truth: Truth, write: Write = digits) -> Rule:
    """Always wrong."""
    return lambda body: write([not right for right in truth(body)])


def constant(truth: Truth, answer: bool, write: Write = digits) -> Rule:
    """The same answer to every question."""
    return lambda body: write([answer for _ in truth(body)])


def chance(truth: Truth, write: Write = digits, *, share: float = 0.5, seed: int = 0) -> Rule:
    """Yes with a probability of `share`, whatever is asked; the same to the same request."""

    def rule(body: Body) -> str | Said:
        coin = random.Random(f"{seed} {asked(body)}")
        return write([coin.random() < share for _ in truth(body)])

    return rule


def logprobs(tokens: Sequence[tuple[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """OpenAI's `content` list from (token said, {candidate: log probability})."""
    return [
        {
            "token": said,
            "logprob": top[said],
            "bytes": None,
            "top_logprobs": [{"token": t, "logprob": p, "bytes": None} for t, p in top.items()],
        }
        for said, top in tokens
    ]


@dataclass
class Server:
    """A running server and what it saw."""

    rule: Rule
    models: tuple[str, ...] = ("m",)
    offers: frozenset[str] = frozenset({"response_format", "logprobs"})
    """Parameters that it takes; others of REFUSABLE are answered with status 400."""
    bodies: list[Body] = field(default_factory=list)
    """Every request for a completion, in order of arrival."""
    headers: list[dict[str, str]] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    """How often each prompt got a reply (status 200 and whole)."""
    open: int = 0
    most_open: int = 0
    port: int = 0
    wrap: Callable[[Body], Any] = lambda body: body
    """Puts something else in place of a whole reply."""
    keep: bool = True
    """Whether to keep what it saw; a benchmark does not."""
    listing: Any = None
    """What `/v1/models` answers; None: its models as OpenAI lists them."""
    props: Any = None
    """What `/props` answers, as llama.cpp's; None: there is no such place."""
    looked: list[str] = field(default_factory=list)
    """Paths other than completions, in order."""
    slots: int = 1_000_000
    """How many requests it works on at once; the others wait for their turn."""
    takes_s: float = 0.0
    """How long it works on each."""
    turns: asyncio.Semaphore | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def calls(self) -> int:
        """Requests for a completion so far."""
        return len(self.bodies)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive from request to request."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if not await self._answer(head.decode("latin-1"), reader, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        first, *lines = head.split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines if line)}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        _, path, _ = first.split(" ", 2)
        if not path.endswith("/v1/chat/completions"):
            self.looked.append(path)
        if path.endswith("/props") and self.props is not None:
            return send(writer, 200, self.props)
        if path.endswith("/models") and self.listing is not None:
            return send(writer, 200, self.listing)
        if path.endswith("/models"):
            listing = {"object": "list", "data": [{"id": name} for name in self.models]}
            return send(writer, 200, listing)
        if not path.endswith("/v1/chat/completions"):
            return send(writer, 404, error("Not Found"))
        body = json.loads(raw)
        if self.keep:
            self.bodies.append(body)
            self.headers.append(headers)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            return await self._complete(body, writer)
        finally:
            self.open -= 1

    async def _complete(self, body: Body, writer: asyncio.StreamWriter) -> bool:
        if self.takes_s:
            self.turns = self.turns or asyncio.Semaphore(self.slots)
            async with self.turns:
                await asyncio.sleep(self.takes_s)
        said: str | Said | Fault | Recorded | None = self._refuses(body)
        said = said or self.rule(body)
        if isinstance(said, Recorded):
            self.answered[asked(body)] += said.status == 200
            return send(writer, said.status, said.reply)
        if isinstance(said, Fault):
            return await fail(said, writer)
        said = Said(said) if isinstance(said, str) else said
        if said.delay_s:
            await asyncio.sleep(said.delay_s)
        if self.keep:
            self.answered[asked(body)] += 1
        return send(writer, 200, self.wrap(completion(body, said)))

    def _refuses(self, body: Body) -> Fault | None:
        for name in ("response_format", "logprobs"):
            if body.get(name) and name not in self.offers:
                return Fault(400, message=f"Unknown parameter: '{name}'.")
        return None


def completion(body: Body, said: Said) -> Body:
    """A reply as OpenAI writes it."""
    message = {"role": "assistant", "content": said.text, "refusal": said.refusal}
    choice: Body = {"index": 0, "message": message, "finish_reason": said.finish}
    choice["logprobs"] = {"content": said.logprobs} if said.logprobs else None
    found: Body = {
        "id": "c",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.get("model"),
        "choices": [choice],
    }
    if said.tokens_in is not None and said.tokens_out is not None:
        found["usage"] = {
            "prompt_tokens": said.tokens_in,
            "completion_tokens": said.tokens_out,
            "total_tokens": said.tokens_in + said.tokens_out,
        }
    return found


def error(message: str, code: str | None = None) -> Body:
    """An error's body as OpenAI writes it."""
    return {"error": {"message": message, "type": "invalid_request_error", "code": code}}


async def fail(fault: Fault, writer: asyncio.StreamWriter) -> bool:
    """Misbehave; whether the connection goes on."""
    if fault.kind == "hang":
        await asyncio.sleep(3600)
    if fault.kind == "reset":
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return False
    if fault.kind == "half":
        whole = json.dumps(completion({}, Said("never whole"))).encode()
        writer.write(header(200, len(whole)) + whole[: len(whole) // 2])
        await writer.drain()
        return False
    if fault.kind == "garbage":
        writer.write(header(200, 15) + b"<html>no</html>")
        return True
    if fault.kind == "redirect":
        where = "http://127.0.0.1:9/v1/chat/completions"
        writer.write(header(302, 0, f"Location: {where}\r\n"))
        return True
    more = f"Retry-After: {fault.retry_after}\r\n" if fault.retry_after else ""
    return send(writer, fault.status, error(fault.message, fault.code), more)


def header(status: int, length: int, more: str = "") -> bytes:
    """An HTTP head."""
    text = f"HTTP/1.1 {status} {REASONS.get(status, 'Other')}\r\nContent-Type: application/json\r\n"
    return f"{text}Content-Length: {length}\r\n{more}\r\n".encode()


def send(writer: asyncio.StreamWriter, status: int, body: Any, more: str = "") -> bool:
    """A whole reply."""
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    writer.write(header(status, len(raw), more) + raw)
    return True


@contextmanager
def serve(rule: Rule, **options: Any) -> Iterator[Server]:
    """A server in a thread of its own, until the block ends."""
    server = Server(rule, **options)
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def run() -> None:
        listening = await asyncio.start_server(server.connected, "127.0.0.1", server.port)
        server.port = listening.sockets[0].getsockname()[1]
        ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            listening.close()

    task = loop.create_task(run())
    thread = threading.Thread(target=drive, args=[loop, task], daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(5)


def drive(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]") -> None:
    """Run a loop until its task was cancelled, with everything that hangs on it."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(asyncio.wait([task]))
    finally:
        left = asyncio.all_tasks(loop)
        for each in left:
            each.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()


def main() -> None:
    """Answer everything alike, and print the port."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reply", default=digits([True] * 5))
    parser.add_argument("--delay-s", type=float, default=0.0)
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    said = Said(args.reply, delay_s=args.delay_s)
    with serve(always(said), keep=False, port=args.port) as server:
        print(server.port, flush=True)  # noqa: T201 - how the parent learns the port
        threading.Event().wait()


if __name__ == "__main__":
    main()
