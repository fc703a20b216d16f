"""Classify what went wrong with an attempt to call a server: HTTP errors, time-outs, broken
connections. Each fault becomes a failure with a sentence that says what would help, and the
decision whether to retry: 429, 5xx, time-outs and broken connections are retried; other 4xx, and
complete but unusable replies, are not."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2
import openai

from autointerp.llm.context_size_refusal import parse_context_refusal
from autointerp.llm.requests_and_replies import AttemptResult, RequestFailure
from autointerp.llm.server_settings import LlmServer

LONGEST_WAIT_S = 300.0
"""Longest wait in seconds that a server may ask for; beyond it the job stops and can be resumed."""
MAX_SHOWN_CHARS = 200
DURATION_PATTERN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)")
UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
NO_CREDIT_WORDS = ("insufficient_quota", "billing_hard_limit_reached", "insufficient credits")


def classify_client_error(
    error: Exception, server: LlmServer, model: str, clean: Callable[[str], str]
) -> AttemptResult:
    """Classify a call to a server that ended in an exception of the HTTP client (time-out, no
    connection, broken reply) as an attempt result."""
    where = f"{server.name} ({server.base_url})"
    if isinstance(error, openai.APIStatusError):
        return classify_status_error(
            error, server, model, shorten_line(clean(server_error_message(error)))
        )
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        sentence = f"{where} did not answer within {server.timeout_s:g} s."
        return AttemptResult(RequestFailure("timeout", sentence), certainly_free=False, retry=True)
    cause = error.__cause__ or error
    if isinstance(cause, httpx2.ConnectError | httpx2.UnsupportedProtocol):
        why = shorten_line(clean(str(cause)))
        sentence = (
            f"Nothing answers at {where}: {why}. Check that the server is running and that the URL "
            "is right."
        )
        return AttemptResult(RequestFailure("unreachable", sentence), retry=True)
    if isinstance(error, ValueError | RecursionError):
        return not_a_completion(server, "no JSON")
    why = shorten_line(clean(str(cause))) or type(cause).__name__
    sentence = f"The connection to {where} broke before the reply was complete: {why}."
    return AttemptResult(RequestFailure("broken reply", sentence), certainly_free=False, retry=True)


def classify_status_error(
    error: openai.APIStatusError, server: LlmServer, model: str, server_text: str
) -> AttemptResult:
    """Return the attempt result of a call that the server answered with an HTTP error status."""
    status, where = error.status_code, f"{server.name} ({server.base_url})"
    if status in (401, 403):
        return AttemptResult(key_failure(server, where, server_text))
    if status == 404:
        known = f" The configured models are: {', '.join(server.models)}." if server.models else ""
        return AttemptResult(
            RequestFailure(
                "not found",
                (
                    f"{where} knows no model {model!r}, or it is not the base URL of a server "
                    f"(most end in /v1): {server_text}.{known}"
                ),
            )
        )
    if status == 402 or any(
        word in server_error_message(error).lower() for word in NO_CREDIT_WORDS
    ):
        return AttemptResult(
            RequestFailure(
                "no credit", f"The account at {where} has no credit left: {server_text}."
            )
        )
    if status in (429, 503):
        return classify_rate_limit(error, where, server_text)
    # before the 5xx: some servers answer 500 to a prompt that is too long
    if refusal := parse_context_refusal(server_error_message(error)):
        sentence = (
            f"{where} has too small a context for the question (status {status}): {server_text}."
        )
        return AttemptResult(RequestFailure("context size", sentence), context=refusal)
    if status >= 500 or status in (408, 409):
        sentence = f"{where} failed with status {status}: {server_text}."
        return AttemptResult(RequestFailure("server error", sentence), retry=True)
    if 300 <= status < 400:
        sentence = f"{where} sends the call elsewhere; give the URL of the server itself."
        return AttemptResult(RequestFailure("not found", sentence))
    return AttemptResult(
        RequestFailure(
            "rejected", f"{where} rejected the request with status {status}: {server_text}."
        )
    )


def key_failure(server: LlmServer, where: str, server_text: str) -> RequestFailure:
    """Return the failure of a call with status 401 or 403: no API key, or one that the server does
    not accept."""
    if not server.key_env:
        return RequestFailure(
            "no key",
            (
                f"{where} requires an API key, and none is configured for this URL. Name the "
                "environment variable that holds the key as key_env in servers.toml."
            ),
        )
    if not server.key():
        return RequestFailure(
            "no key", f"{where} requires an API key, and {server.key_env} is not set."
        )
    return RequestFailure(
        "unauthorized", f"{where} does not accept the key of {server.key_env}: {server_text}."
    )


def classify_rate_limit(
    error: openai.APIStatusError, where: str, server_text: str
) -> AttemptResult:
    """Return the attempt result of a 429 or 503: to be retried after as long as the server asks
    for."""
    wait_s = read_retry_after_s(error.response.headers)
    sentence = f"{where} takes no more calls at present ({error.status_code}): {server_text}."
    if wait_s > LONGEST_WAIT_S:
        sentence += f" It asks to wait {wait_s:,.0f} s: resume the job then."
        return AttemptResult(RequestFailure("told to wait", sentence))
    return AttemptResult(RequestFailure("rate limited", sentence), retry=True, wait_s=wait_s)


def read_retry_after_s(headers: httpx2.Headers) -> float:
    """Return the seconds that a server asks to wait: the Retry-After header (a number or a date),
    or the reset time of its request or token limit; 0 where it names none of them."""
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
    """Return the seconds of a duration in a server's rate-limit headers, as OpenAI writes it
    (`6m0s`, `20ms`, `1.5`); 0 where the text is no duration."""
    parts = DURATION_PATTERN.findall(text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        return 0.0
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)


def not_a_completion(server: LlmServer, server_text: str) -> AttemptResult:
    """Return the attempt result for a server response that is no chat completion, with advice to
    check the base URL."""
    sentence = (
        f"{server.name} ({server.base_url}) sent something else than a chat completion: "
        f"{shorten_line(server_text)}. Check the base URL; most end in /v1."
    )
    return AttemptResult(RequestFailure("broken reply", sentence), certainly_free=False, retry=True)


def error_inside_reply(server: LlmServer, server_text: str) -> AttemptResult:
    """Return the attempt result of an error that a server sent with status 200, as if it were a
    reply."""
    sentence = f"{server.name} ({server.base_url}) failed: {shorten_line(server_text)}."
    return AttemptResult(RequestFailure("server error", sentence), certainly_free=False, retry=True)


def server_error_message(error: openai.APIStatusError) -> str:
    """Return the message of a server's error response, with its error code."""
    body = error.body
    if isinstance(body, dict):
        server_text = body.get("message") or body.get("detail") or error.message
        code = body.get("code")
        return f"{server_text} ({code})" if code else str(server_text)
    return str(error.response.text if body is None else body) or error.message


def shorten_line(text: str) -> str:
    """Return an untrusted text of a server on one line, cut to MAX_SHOWN_CHARS, without a full stop
    at its end."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= MAX_SHOWN_CHARS else line[: MAX_SHOWN_CHARS - 1] + "…"
