"""Retry policy of the asker: how often a request to a server is attempted after a time-out, a
broken connection or a refusal, and how long to wait between the attempts."""

from dataclasses import dataclass

from tenacity import RetryCallState, wait_random_exponential

from autointerp.llm.requests_and_replies import AttemptResult, RequestFailure


@dataclass(frozen=True)
class RetryPolicy:
    """How often the asker attempts a request to a server, and how long it waits between
    attempts."""

    attempts: int = 5
    refusals: int = 12
    """Maximum number of attempts while the server answers 429 (too many requests)."""
    first_s: float = 0.5
    """Upper bound of the first random wait, in seconds; each further bound is twice the last."""
    longest_s: float = 30.0

    def stop(self, state: RetryCallState) -> bool:
        """Return whether the asker has made the last attempt that its retry policy allows."""
        result = last_attempt(state).result
        limited = isinstance(result, RequestFailure) and result.kind == "rate limited"
        return state.attempt_number >= (self.refusals if limited else self.attempts)

    def wait(self, state: RetryCallState) -> float:
        """Return the seconds until the asker's next attempt: what the server asked for, plus a
        random exponential backoff."""
        chance = wait_random_exponential(multiplier=self.first_s, max=self.longest_s)
        return last_attempt(state).wait_s + chance(state)


def last_attempt(state: RetryCallState) -> AttemptResult:
    """Return the result of the attempt before the retry that the policy decides on."""
    if state.outcome is None:
        return AttemptResult(RequestFailure("unreachable", ""))
    return state.outcome.result()
