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

from autointerp.llm.context_size_refusal import parse_context_refusal
from autointerp.llm.records import AttemptResult, RequestFailure
from autointerp.llm.server_settings import LlmServer

LONGEST_WAIT_S = 300.0
"""A server that asks to wait longer is not waited for: the job stops and can be resumed."""
MAX_SHOWN_CHARS = 200
DURATION_PATTERN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)")
UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
NO_CREDIT_WORDS = ("insufficient_quota", "billing_hard_limit_reached", "insufficient credits")


def classify_client_error(
    error: Exception, server: LlmServer, model: str, clean: Callable[[str], str]
) -> AttemptResult:
    """The outcome of an attempt that ended in an exception of the client."""
    where = f"{server.name} ({server.base_url})"
    if isinstance(error, openai.APIStatusError):
        return classify_status_error(
            error, server, model, shorten_line(clean(server_error_message(error)))
        )
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        sentence = f"{where} did not answer within {server.timeout_s:g} s."
        return AttemptResult(RequestFailure("timeout", sentence), free=False, again=True)
    cause = error.__cause__ or error
    if isinstance(cause, httpx2.ConnectError | httpx2.UnsupportedProtocol):
        why = shorten_line(clean(str(cause)))
        sentence = f"Nothing answers at {where}: {why}. Is the server running, the URL right?"
        return AttemptResult(RequestFailure("unreachable", sentence), again=True)
    if isinstance(error, ValueError | RecursionError):
        return not_a_completion(server, "no JSON")
    why = shorten_line(clean(str(cause))) or type(cause).__name__
    sentence = f"The connection to {where} broke before the reply was whole: {why}."
    return AttemptResult(RequestFailure("broken reply", sentence), free=False, again=True)


def classify_status_error(
    error: openai.APIStatusError, server: LlmServer, model: str, said: str
) -> AttemptResult:
    """The outcome of an attempt that was answered with an error."""
    status, where = error.status_code, f"{server.name} ({server.base_url})"
    if status in (401, 403):
        return AttemptResult(key_failure(server, where, said))
    if status == 404:
        known = f" It is said to have: {', '.join(server.models)}." if server.models else ""
        return AttemptResult(
            RequestFailure(
                "not found",
                (
                    f"{where} knows no model {model!r}, or it is not the base URL of a server "
                    f"(most end in /v1): {said}.{known}"
                ),
            )
        )
    if status == 402 or any(
        word in server_error_message(error).lower() for word in NO_CREDIT_WORDS
    ):
        return AttemptResult(
            RequestFailure("no credit", f"The account at {where} has no credit left: {said}.")
        )
    if status in (429, 503):
        return classify_rate_limit(error, where, said)
    if refusal := parse_context_refusal(server_error_message(error)):
        sentence = f"{where} has too small a context for the question (status {status}): {said}."
        return AttemptResult(RequestFailure("context size", sentence), context=refusal)
    if status >= 500 or status in (408, 409):
        sentence = f"{where} failed with status {status}: {said}."
        return AttemptResult(RequestFailure("server error", sentence), again=True)
    if 300 <= status < 400:
        sentence = f"{where} sends the call elsewhere; give the URL of the server itself."
        return AttemptResult(RequestFailure("not found", sentence))
    return AttemptResult(
        RequestFailure("rejected", f"{where} rejected the request with status {status}: {said}.")
    )


def key_failure(server: LlmServer, where: str, said: str) -> RequestFailure:
    """No key, or one that does not fit."""
    if not server.key_env:
        return RequestFailure(
            "no key",
            (
                f"{where} wants a key, and none is configured for this URL. Name the environment "
                "variable that holds it as key_env in the file of servers."
            ),
        )
    if not server.key():
        return RequestFailure("no key", f"{where} wants a key, and {server.key_env} is not set.")
    return RequestFailure(
        "unauthorized", f"{where} does not accept the key of {server.key_env}: {said}."
    )


def classify_rate_limit(error: openai.APIStatusError, where: str, said: str) -> AttemptResult:
    """Return the outcome of a 429 or 503: to be tried again, after as long as the server asks."""
    wait_s = read_retry_after_s(error.response.headers)
    sentence = f"{where} takes no more calls at present ({error.status_code}): {said}."
    if wait_s > LONGEST_WAIT_S:
        sentence += f" It asks to wait {wait_s:,.0f} s: resume the job then."
        return AttemptResult(RequestFailure("told to wait", sentence))
    return AttemptResult(RequestFailure("rate limited", sentence), again=True, wait_s=wait_s)


def read_retry_after_s(headers: httpx2.Headers) -> float:
    """Return the seconds that a server asks to wait: Retry-After, a number or a date, or when its
    limit of requests or tokens is reset; 0 where it names none of them."""
    if "retry-after" not in headers and "retry-after-ms" not in headers:
        return max(
            (
                parse_duration_s(headers.get(f"x-ratelimit-reset-{what}", ""))
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


def parse_duration_s(text: str) -> float:
    """Return the seconds of a duration as OpenAI's headers write it (`6m0s`, `20ms`, `1.5`)."""
    parts = DURATION_PATTERN.findall(text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        return 0.0
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)


def not_a_completion(server: LlmServer, said: str) -> AttemptResult:
    """A reply that is not one of this interface."""
    sentence = (
        f"{server.name} ({server.base_url}) sent something else than a chat completion: "
        f"{shorten_line(said)}. Is this the base URL? Most end in /v1."
    )
    return AttemptResult(RequestFailure("broken reply", sentence), free=False, again=True)


def error_inside_reply(server: LlmServer, said: str) -> AttemptResult:
    """An error sent as if it were a reply."""
    sentence = f"{server.name} ({server.base_url}) failed: {shorten_line(said)}."
    return AttemptResult(RequestFailure("server error", sentence), free=False, again=True)


def server_error_message(error: openai.APIStatusError) -> str:
    """What the server said, with its code."""
    body = error.body
    if isinstance(body, dict):
        said = body.get("message") or body.get("detail") or error.message
        code = body.get("code")
        return f"{said} ({code})" if code else str(said)
    return str(error.response.text if body is None else body) or error.message


def shorten_line(text: str) -> str:
    """One line of untrusted text, not long, without a full stop at its end."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= MAX_SHOWN_CHARS else line[: MAX_SHOWN_CHARS - 1] + "…"
