"""The asker of one model on one server. It answers a request from the call log if the same request
was asked before; otherwise it reserves the cost in the budget, sends the request with retries, and
records the outcome."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tenacity import AsyncRetrying, retry_if_result

from autointerp.llm import call_rows
from autointerp.llm.call_budget import CallBudget
from autointerp.llm.call_log import CallLog
from autointerp.llm.concurrency_limit import CallSlot, ConcurrencyLimiter
from autointerp.llm.failure_kinds import REPETITION_KINDS
from autointerp.llm.recorded_replies import answer_from_record
from autointerp.llm.reply_format_example import add_reply_example, repeats_reply_example
from autointerp.llm.request_format import RequestFormat
from autointerp.llm.requests_and_replies import (
    AttemptResult,
    ChatRequest,
    Reply,
    RequestFailure,
)
from autointerp.llm.retry_policy import RetryPolicy
from autointerp.llm.server_activity import ServerActivity
from autointerp.llm.server_facts import ServerFacts, read_server_facts
from autointerp.llm.server_settings import LlmServer
from autointerp.llm.token_prices import TokenPrice, find_price, load_prices
from feature_store.permissions import require_costly_work_allowed

if TYPE_CHECKING:
    from autointerp.llm.server_client import ServerClient

ReplyOrFailure = Reply | RequestFailure


TEMPLATE_TOKENS = 40
"""Approximate number of tokens that a chat template adds to a question, such as a default system
message."""
MIN_BYTES_TO_LEARN = 400
"""Size in bytes from which a question is long enough to estimate the server's tokens per byte."""
SCOUT_QUESTIONS = 3
"""Maximum number of questions that are asked one at a time until it is known whether the server
follows JSON schemas."""
REPLY_FORM_NAMES = {
    "json": "bare JSON",
    "prose": "JSON within other text",
    "line": "a labelled line",
}
BUSY_MESSAGES = {"rate limited": "is busy (429 or 503)", "timeout": "did not answer in time"}
"""Kind of failure of an overloaded server → how the job's log describes it."""


class ServerAsker:
    """Asker of one model on one language-model server, as `open_asker` gives it: uses the call log,
    the budget, the concurrency limit and retries."""

    def __init__(
        self,
        client: "ServerClient",
        model: str,
        calls: CallLog,
        budget: CallBudget,
        *,
        retry_policy: RetryPolicy,
        retry_recorded: bool,
        note: Callable[[str], None],
    ) -> None:
        server = client.server
        self.model = model
        self.server = server
        self.cached = 0
        """Number of requests that this asker answered from the call log."""
        self.activity = ServerActivity(server.concurrency)
        """Calls in flight, latency and tokens per second, for progress displays."""
        self.limiter = ConcurrencyLimiter(server.concurrency, self.activity)
        self._client, self._calls, self._budget = client, calls, budget
        self._retry_policy, self._retry_recorded, self._note = retry_policy, retry_recorded, note
        self._format = RequestFormat.from_server(server)
        self.facts: ServerFacts | None = None
        """What the server reports about itself; None until it was asked."""
        self.context_tokens: int | None = server.context_tokens or None
        """Context size for a question and its reply together, in tokens; None while it is not
        known."""
        self._tokens_per_byte: float | None = None
        self._facts_lock = asyncio.Lock()
        self._scouts_left = SCOUT_QUESTIONS
        self._scout_lock = asyncio.Lock()
        self._in_progress: dict[str, asyncio.Future[ReplyOrFailure]] = {}

    @property
    def logprobs(self) -> bool:
        """Whether the server returns log probabilities, as far as is known."""
        return self._format.logprobs

    async def ask(self, request: ChatRequest) -> ReplyOrFailure:
        """Answer a request: from the call log, or from the server once budget and concurrency limit
        allow.

        Equal requests that are asked at the same time share one call. Raises InputError where the
        call log cannot be written, as on a full disk.
        """
        request = request.to(self.server.base_url, self.model)
        while twin := self._in_progress.get(request.key):
            try:
                answer = await asyncio.shield(twin)
                return replace(answer, cached=True)
            except asyncio.CancelledError:
                if not twin.cancelled() or is_task_cancelled():
                    raise  # the caller itself was cancelled, not the equal request
        mine: asyncio.Future[ReplyOrFailure] = asyncio.get_running_loop().create_future()
        self._in_progress[request.key] = mine
        try:
            answer = await self._ask(request)
        except BaseException as error:
            if isinstance(error, Exception):
                mine.set_exception(error)
                mine.exception()  # marks it as retrieved: perhaps no equal request waits for it
            else:
                mine.cancel()
            raise
        else:
            mine.set_result(answer)
            return answer
        finally:
            del self._in_progress[request.key]

    async def _ask(self, request: ChatRequest) -> ReplyOrFailure:
        """Answer a request; the first requests with a JSON schema are asked one at a time.

        Until it is known whether the server follows JSON schemas, this keeps the number of
        questions low that have to be asked twice.
        """
        if request.schema is None or self._scouts_left <= 0:
            return await self._ask_adapting_form(request)
        async with self._scout_lock:
            if self._scouts_left > 0:
                answer = await self._ask_adapting_form(request)
                # once the server is known, no further questions need to be asked one at a time
                self._scouts_left -= 1 if self._format.is_undecided else self._scouts_left
                return answer
        return await self._ask_adapting_form(request)

    async def _ask_adapting_form(self, request: ChatRequest) -> ReplyOrFailure:
        """Answer a request, and ask once more in another form where that may help: with an answered
        example if the server ignores JSON schemas, with a penalty on repetition if the reply ran in
        circles."""
        schema = request.schema
        by_example = schema is not None and self._format.uses_example
        asked = add_reply_example(request) if by_example else request
        answer = await self._ask_once(asked)
        if schema is not None and not by_example and self._ignores_schema(answer):
            asked = add_reply_example(request)
            answer = await self._ask_once(asked)
        if (
            isinstance(answer, RequestFailure)
            and answer.kind in REPETITION_KINDS
            and not request.penalty
        ):
            second = await self._ask_once(replace(asked, penalty=self.server.penalty))
            if isinstance(second, RequestFailure) and not second.stops_job:
                sentence = f"{answer.sentence} With a penalty on repetition: {second.sentence}"
                second = replace(second, sentence=sentence)
            answer = second
        if (
            schema is not None
            and asked is not request
            and isinstance(answer, Reply)
            and repeats_reply_example(answer.parsed, schema)
        ):
            return RequestFailure("unreadable", "The reply only repeats the answer of the example.")
        return answer

    def _ignores_schema(self, answer: ReplyOrFailure) -> bool:
        """Return whether a reply shows that the server ignored the JSON schema; count the reply,
        and log a change of the server's request format."""
        if isinstance(answer, Reply) and answer.form is None:
            return False
        without_json = isinstance(answer, RequestFailure) and answer.without_json
        if (isinstance(answer, Reply) or without_json) and (
            line := self._format.count_schema_reply(without_json=without_json)
        ):
            self._note(f"{self.server.name}: {line}")
        return without_json

    async def _ask_once(self, request: ChatRequest) -> ReplyOrFailure:
        """Answer one request from the call log or from the server, and count the form in which the
        answer was found."""
        answer = await self._recorded_or_asked(request)
        if isinstance(answer, RequestFailure):
            return answer
        if answer.form is not None:
            self.activity.count_reply_form(answer.form)
        return replace(answer, key=request.key)

    async def _recorded_or_asked(self, request: ChatRequest) -> ReplyOrFailure:
        """Return the recorded reply to a request, or ask the server with retries."""
        recorded = await self._calls.find_reply(request.key)
        if recorded and (recorded.kind == "reply" or not self._retry_recorded):
            self.cached += 1
            return answer_from_record(recorded, request)
        await self._read_facts()
        nth = 0

        async def attempt() -> AttemptResult:
            nonlocal nth
            nth += 1
            return await self._attempt(request, nth)

        retry_policy = self._retry_policy
        retrying = AsyncRetrying(
            stop=retry_policy.stop,
            wait=retry_policy.wait,
            retry=retry_if_result(lambda outcome: outcome.retry),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        outcome: AttemptResult = await retrying(attempt)
        return outcome.result

    async def _attempt(self, request: ChatRequest, nth: int) -> AttemptResult:
        """Ask the server once, in a slot of the concurrency limit; the attempt is paid for and
        recorded before the slot is released."""
        async with self.limiter.slot() as slot:
            cost = self._maximum_cost(request)
            if cost is None:
                return AttemptResult(
                    RequestFailure(
                        "no price",
                        (
                            f"The price of {request.model!r} is not known, so no budget can be "
                            "kept. Put it into prices.toml, or set no budget."
                        ),
                    )
                )
            if not await self._budget.reserve(cost):
                return AttemptResult(
                    RequestFailure(
                        "budget",
                        (
                            f"The budget of ${self._budget.cap:.2f} is used up: "
                            f"${self._budget.spent:.4f} are spent, and the next call may cost "
                            f"${cost:.4f}."
                        ),
                    )
                )
            charged = cost  # the whole reserve, until the outcome is known
            try:
                row = call_rows.make_attempt_row(self._calls.next_number(), nth, request, cost)
                self._calls.record(row)
                outcome = await self._send(request, slot)
                charged = amount_charged(outcome, cost)
                self._calls.record(call_rows.make_outcome_row(row, outcome, charged))
            finally:
                await self._budget.settle(cost, charged)
            self._adapt_concurrency(outcome, slot)
            self._learn_token_size(outcome, request)
            if request.logprobs and outcome.text is not None:
                line = self._format.count_logprob_reply(given=outcome.logprobs is not None)
                if line:
                    self._note(f"{self.server.name}: {line}")
            return outcome

    async def _send(self, request: ChatRequest, slot: CallSlot) -> AttemptResult:
        """Send the asker's request in the format that the server accepts; after a rejection, drop
        the rejected setting and send again."""
        while True:
            body = self._format.body(request)
            with self.activity.call():
                outcome = await self._client.attempt(request, self._format, slot)
            result = outcome.result
            if not isinstance(result, RequestFailure) or result.kind != "rejected":
                return outcome
            if line := self._format.drop_rejected_setting(body, result.sentence):
                self._note(f"{self.server.name}: {line}")
            elif body == self._format.body(
                request
            ):  # no other call has changed the format meanwhile
                return outcome

    def _maximum_cost(self, request: ChatRequest) -> float | None:
        """Return the maximum cost in US dollars of asking the server; None where a budget needs a
        price that is not known."""
        known = self._client.price
        if known is None:
            return 0.0 if self._budget.cap is None else None
        return known.cost_of(request.longest, request.max_tokens)

    async def _read_facts(self) -> None:
        """Ask the server for its facts (slots, context size) once, before the first question."""
        async with self._facts_lock:
            if self.facts is not None:
                return
            get, url = self._client.get_json, self.server.base_url
            self.facts = facts = await read_server_facts(get, url, self.model)
        if facts.slots:
            self.limiter.set_server_slots(facts.slots)
        known = [n for n in (facts.context_tokens, self.context_tokens) if n]
        self.context_tokens = min(known, default=None)
        if facts.context_tokens:
            slots = f", {facts.slots} at once" if facts.slots else ""
            self._note(
                f"{self.server.name} takes questions of {facts.context_tokens:,} tokens{slots}."
            )

    def is_too_long(self, request: ChatRequest) -> bool:
        """Return whether a request together with its longest reply is known to exceed the server's
        context."""
        if self.context_tokens is None or self._tokens_per_byte is None:
            return False
        tokens = request.n_bytes * self._tokens_per_byte + TEMPLATE_TOKENS + request.max_tokens
        return tokens > self.context_tokens

    def _learn_token_size(self, outcome: AttemptResult, request: ChatRequest) -> None:
        """Update the estimate of the server's tokens per byte, and its context size, from one
        attempt."""
        tokens = outcome.tokens_in
        if outcome.context:
            tokens = outcome.context.prompt_tokens
            if size := outcome.context.context_tokens:
                self.context_tokens = min(size, self.context_tokens or size)
        if tokens and request.n_bytes >= MIN_BYTES_TO_LEARN:
            rate = max(0, tokens - TEMPLATE_TOKENS) / request.n_bytes
            self._tokens_per_byte = max(rate, self._tokens_per_byte or 0.0)

    def _adapt_concurrency(self, outcome: AttemptResult, slot: CallSlot) -> None:
        """Adapt the server's concurrency limit to the latency or refusal of one attempt."""
        if isinstance(outcome.result, RequestFailure) and outcome.result.kind in BUSY_MESSAGES:
            if self.limiter.record_refusal(slot, outcome.wait_s):
                self._note(
                    f"{self.server.name} {BUSY_MESSAGES[outcome.result.kind]}: at most "
                    f"{self.limiter.limit} calls at once for now."
                )
        elif outcome.text is not None and outcome.latency_s is not None:
            self.activity.count_reply(outcome.latency_s, outcome.tokens_out)
            self.limiter.record_reply(
                slot, outcome.latency_s, outcome.tokens_in, outcome.tokens_out
            )

    def log_reply_forms(self) -> None:
        """Log in which forms the answers of this asker were found, unless all were bare JSON."""
        forms = self.activity.snapshot().read_as
        if set(forms) - {"json"}:
            forms_found = ", ".join(
                f"{forms[name]} {REPLY_FORM_NAMES[name]}"
                for name in REPLY_FORM_NAMES
                if name in forms
            )
            self._note(f"{self.server.name}: answers were found as {forms_found}.")

    def pause(self) -> None:
        """Send no further calls to the server until `resume`; calls in flight continue."""
        self.limiter.pause()

    def resume(self) -> None:
        """Send calls to the server again after `pause`."""
        self.limiter.resume()


def is_task_cancelled() -> bool:
    """Return whether cancellation of the asker's current asyncio task was requested."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def amount_charged(outcome: AttemptResult, reserved: float) -> float:
    """Return the US dollars that the asker charges to the budget for an attempt: its known cost, or
    the whole reserve where the attempt may have cost something."""
    if outcome.cost is not None:
        return outcome.cost
    return 0.0 if outcome.text is None and outcome.certainly_free else reserved


@asynccontextmanager
async def open_asker(
    server: LlmServer,
    model: str,
    calls: CallLog,
    budget: CallBudget | None = None,
    *,
    table: Mapping[str, TokenPrice] | None = None,
    retry_policy: RetryPolicy | None = None,
    retry_recorded: bool = False,
    note: Callable[[str], None] | None = None,
) -> AsyncIterator[ServerAsker]:
    """Open an asker for one model of a server until the block ends, on the event loop of the block.

    `budget` is shared by all askers of a job; without one there is no cap. With `retry_recorded`,
    recorded replies that could not be used are asked for again. `note` takes lines for the job's
    log. Raises InputError where costly work is not allowed.
    """
    require_costly_work_allowed()
    from autointerp.llm.server_client import connect_to_server  # importing openai takes a second

    known = find_price(model, server, load_prices() if table is None else table)
    async with connect_to_server(server, known) as client:
        asker = ServerAsker(
            client,
            model,
            calls,
            budget or CallBudget(),
            retry_policy=retry_policy or RetryPolicy(),
            retry_recorded=retry_recorded,
            note=note or (lambda line: None),
        )
        try:
            yield asker
        finally:
            asker.log_reply_forms()
