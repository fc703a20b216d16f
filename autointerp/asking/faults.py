"""What went wrong with an attempt, in a sentence that says what would help; and whether to retry.

Retried: 429, 5xx, time-outs, connections that break. Not retried: every other 4xx, and a reply that
is whole but of no use.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2
import openai

from autointerp.asking.context_refusal import read_context_refusal
from autointerp.asking.records import Came, Failed
from autointerp.asking.servers import Server

LONGEST_WAIT_S = 300.0
"""A server that asks to wait longer is not waited for: the job stops and can be resumed."""
SHOWN = 200
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)")
UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "insufficient credits")


def came(error: Exception, server: Server, model: str, clean: Callable[[str], str]) -> Came:
    """The outcome of an attempt that ended in an exception of the client."""
    where = f"{server.name} ({server.base_url})"
    if isinstance(error, openai.APIStatusError):
        return by_status(error, server, model, short(clean(message(error))))
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        sentence = f"{where} did not answer within {server.timeout_s:g} s."
        return Came(Failed("timeout", sentence), free=False, again=True)
    cause = error.__cause__ or error
    if isinstance(cause, httpx2.ConnectError | httpx2.UnsupportedProtocol):
        why = short(clean(str(cause)))
        sentence = f"Nothing answers at {where}: {why}. Is the server running, the URL right?"
        return Came(Failed("unreachable", sentence), again=True)
    if isinstance(error, ValueError | RecursionError):
        return unlike(server, "no JSON")
    why = short(clean(str(cause))) or type(cause).__name__
    sentence = f"The connection to {where} broke before the reply was whole: {why}."
    return Came(Failed("broken reply", sentence), free=False, again=True)


def by_status(error: openai.APIStatusError, server: Server, model: str, said: str) -> Came:
    """The outcome of an attempt that was answered with an error."""
    status, where = error.status_code, f"{server.name} ({server.base_url})"
    if status in (401, 403):
        return Came(unauthorized(server, where, said))
    if status == 404:
        known = f" It is said to have: {', '.join(server.models)}." if server.models else ""
        return Came(
            Failed(
                "not found",
                (
                    f"{where} knows no model {model!r}, or it is not the base URL of a server "
                    f"(most end in /v1): {said}.{known}"
                ),
            )
        )
    if status == 402 or any(word in message(error).lower() for word in NO_CREDIT):
        return Came(Failed("no credit", f"The account at {where} has no credit left: {said}."))
    if status in (429, 503):
        return rate_limited(error, where, said)
    if refusal := read_context_refusal(message(error)):
        sentence = f"{where} has too small a context for the question (status {status}): {said}."
        return Came(Failed("context size", sentence), context=refusal)
    if status >= 500 or status in (408, 409):
        sentence = f"{where} failed with status {status}: {said}."
        return Came(Failed("server error", sentence), again=True)
    if 300 <= status < 400:
        sentence = f"{where} sends the call elsewhere; give the URL of the server itself."
        return Came(Failed("not found", sentence))
    return Came(Failed("rejected", f"{where} rejected the request with status {status}: {said}."))


def unauthorized(server: Server, where: str, said: str) -> Failed:
    """No key, or one that does not fit."""
    if not server.key_env:
        return Failed(
            "no key",
            (
                f"{where} wants a key, and none is configured for this URL. Name the environment "
                "variable that holds it as key_env in the file of servers."
            ),
        )
    if not server.key():
        return Failed("no key", f"{where} wants a key, and {server.key_env} is not set.")
    return Failed("unauthorized", f"{where} does not accept the key of {server.key_env}: {said}.")


def rate_limited(error: openai.APIStatusError, where: str, said: str) -> Came:
    """Return the outcome of a 429 or 503: to be tried again, after as long as the server asks."""
    wait_s = asked_to_wait_s(error.response.headers)
    sentence = f"{where} takes no more calls at present ({error.status_code}): {said}."
    if wait_s > LONGEST_WAIT_S:
        sentence += f" It asks to wait {wait_s:,.0f} s: resume the job then."
        return Came(Failed("told to wait", sentence))
    return Came(Failed("rate limited", sentence), again=True, wait_s=wait_s)


def asked_to_wait_s(headers: httpx2.Headers) -> float:
    """Return the seconds that a server asks to wait: Retry-After, a number or a date, or when its
    limit of requests or tokens is reset; 0 where it names none of them."""
    if "retry-after" not in headers and "retry-after-ms" not in headers:
        return max(
            (
                duration_s(headers.get(f"x-ratelimit-reset-{what}", ""))
                for what in ("requests", "tokens")
                if headers.get(f"x-ratelimit-remaining-{what}") == "0"
            ),
            default=0.0,
        )
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        return max(0.0, float(headers.get("retry-after", 0)))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(headers["retry-after"])
    except (ValueError, KeyError):
        return 0.0
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def duration_s(text: str) -> float:
    """Return the seconds of a duration as OpenAI's headers write it (`6m0s`, `20ms`, `1.5`)."""
    parts = DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        return 0.0
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)


def unlike(server: Server, said: str) -> Came:
    """A reply that is not one of this interface."""
    sentence = (
        f"{server.name} ({server.base_url}) sent something else than a chat completion: "
        f"{short(said)}. Is this the base URL? Most end in /v1."
    )
    return Came(Failed("broken reply", sentence), free=False, again=True)


def inside(server: Server, said: str) -> Came:
    """An error sent as if it were a reply."""
    sentence = f"{server.name} ({server.base_url}) failed: {short(said)}."
    return Came(Failed("server error", sentence), free=False, again=True)


def message(error: openai.APIStatusError) -> str:
    """What the server said, with its code."""
    body = error.body
    if isinstance(body, dict):
        said = body.get("message") or body.get("detail") or error.message
        code = body.get("code")
        return f"{said} ({code})" if code else str(said)
    return str(error.response.text if body is None else body) or error.message


def short(text: str) -> str:
    """One line of untrusted text, not long, without a full stop at its end."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
