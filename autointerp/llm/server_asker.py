"""An asker over a server: record first, then the budget, then the server, and the record again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, wait_random_exponential

from autointerp.llm import call_rows
from autointerp.llm.call_budget import CallBudget
from autointerp.llm.call_log import CallLog
from autointerp.llm.concurrency_limit import CallSlot, ConcurrencyLimiter
from autointerp.llm.records import AttemptResult, ChatRequest, Reply, RequestFailure, TokenLogprob
from autointerp.llm.reply_format_example import add_reply_example, repeats_reply_example
from autointerp.llm.reply_parser import (
    ParsedReply,
    ReplyWithoutJson,
    UnreadableReply,
    begins_as_prose,
    parse_reply,
)
from autointerp.llm.request_format import RequestFormat
from autointerp.llm.server_activity import ServerActivity
from autointerp.llm.server_facts import ServerFacts, read_server_facts
from autointerp.llm.server_settings import LlmServer
from autointerp.llm.token_prices import TokenPrice, find_price, load_prices
from feature_store.permissions import require_costly_work_allowed
from feature_store.strict_json import parse_json

if TYPE_CHECKING:
    from autointerp.llm.server_client import ServerClient

ReplyOrFailure = Reply | RequestFailure


@dataclass(frozen=True)
class RetryPolicy:
    """How often a request is attempted, and how long to wait between."""

    attempts: int = 5
    refusals: int = 12
    """Attempts while the server answers 429."""
    first_s: float = 0.5
    """The first wait is random up to this; the next ones up to twice the last."""
    longest_s: float = 30.0

    def stop(self, state: RetryCallState) -> bool:
        """Whether that was the last attempt."""
        came: AttemptResult = state.outcome.result() if state.outcome else AttemptResult(NO_OUTCOME)
        limited = isinstance(came.result, RequestFailure) and came.result.kind == "rate limited"
        return state.attempt_number >= (self.refusals if limited else self.attempts)

    def wait(self, state: RetryCallState) -> float:
        """Seconds until the next attempt: what the server asks, and some chance."""
        came: AttemptResult = state.outcome.result() if state.outcome else AttemptResult(NO_OUTCOME)
        chance = wait_random_exponential(multiplier=self.first_s, max=self.longest_s)
        return came.wait_s + chance(state)


NO_OUTCOME = RequestFailure("unreachable", "")
REPETITION_KINDS: frozenset[str] = frozenset(("cut off", "repeats"))
"""Kinds of failure after which a question is put once more, with a penalty on repetition: it cured
all loops of SmolLM2-135M on llama.cpp, a higher temperature did not (docs/servers.md)."""
TEMPLATE_TOKENS = 40
"""About what a chat template puts around a question, such as a default system message."""
MIN_BYTES_TO_LEARN = 400
"""Bytes of a question from which its tokens say how many a byte makes."""
SCOUT_QUESTIONS = 3
"""Questions asked one by one, at most, until it is known whether the server keeps to schemas."""
REPLY_FORM_NAMES = {
    "json": "bare JSON",
    "prose": "JSON within other text",
    "line": "a labelled line",
}
BUSY_MESSAGES = {"rate limited": "is busy (429 or 503)", "timeout": "did not answer in time"}
"""Kind of failure → what it says of a server that gets too many calls at once."""


class ServerAsker:
    """Asks one model of one server. See `asking`."""

    def __init__(
        self,
        client: "ServerClient",
        model: str,
        calls: CallLog,
        budget: CallBudget,
        *,
        patience: RetryPolicy,
        retry_kept: bool,
        note: Callable[[str], None],
    ) -> None:
        server = client.server
        self.model = model
        self.server = server
        self.cached = 0
        """Requests answered from the record, by this asker."""
        self.activity = ServerActivity(server.concurrency)
        """Calls in flight, latency and tokens per second, for whoever watches."""
        self.limiter = ConcurrencyLimiter(server.concurrency, self.activity)
        self._client, self._calls, self._budget = client, calls, budget
        self._patience, self._retry_kept, self._note = patience, retry_kept, note
        self._dialect = RequestFormat.of(server)
        self.facts: ServerFacts | None = None
        """What the server says of itself; None until it was asked."""
        self.context_tokens: int | None = server.context_tokens or None
        """Of a question and its reply together; None while it is not known."""
        self._tokens_per_byte: float | None = None
        self._looking = asyncio.Lock()
        self._scouts = SCOUT_QUESTIONS
        self._scouting = asyncio.Lock()
        self._under_way: dict[str, asyncio.Future[ReplyOrFailure]] = {}

    @property
    def logprobs(self) -> bool:
        """Whether the server gives log probabilities, as far as is known."""
        return self._dialect.logprobs

    async def ask(self, request: ChatRequest) -> ReplyOrFailure:
        """The answer: from the record, or from the server after budget and limits allow.

        Raises InputError when the record cannot be written, as on a full disk.
        """
        request = request.to(self.server.base_url, self.model)
        while twin := self._under_way.get(request.key):
            try:
                answer = await asyncio.shield(twin)
                return replace(answer, cached=True)
            except asyncio.CancelledError:
                if not twin.cancelled() or is_task_cancelled():
                    raise  # not the twin's end but the caller's own
        mine: asyncio.Future[ReplyOrFailure] = asyncio.get_running_loop().create_future()
        self._under_way[request.key] = mine
        try:
            answer = await self._ask(request)
        except BaseException as error:
            if isinstance(error, Exception):
                mine.set_exception(error)
                mine.exception()  # a twin may wait for it, or nobody
            else:
                mine.cancel()
            raise
        else:
            mine.set_result(answer)
            return answer
        finally:
            del self._under_way[request.key]

    async def _ask(self, request: ChatRequest) -> ReplyOrFailure:
        """The answer to a question. Until it is known whether the server keeps to schemas, one
        question with a schema is asked at a time, so that few have to be put twice."""
        if request.schema is None or self._scouts <= 0:
            return await self._ask_twice(request)
        async with self._scouting:
            if self._scouts > 0:
                answer = await self._ask_twice(request)
                self._scouts -= 1 if self._dialect.undecided else self._scouts
                return answer
        return await self._ask_twice(request)

    async def _ask_twice(self, request: ChatRequest) -> ReplyOrFailure:
        """The answer to a question, which is put once more in another way where that may help."""
        schema = request.schema
        by_example = schema is not None and self._dialect.in_words
        asked = add_reply_example(request) if by_example else request
        answer = await self._answer(asked)
        if schema is not None and not by_example and self._ignores_schema(answer):
            asked = add_reply_example(request)
            answer = await self._answer(asked)
        if (
            isinstance(answer, RequestFailure)
            and answer.kind in REPETITION_KINDS
            and not request.penalty
        ):
            second = await self._answer(replace(asked, penalty=self.server.penalty))
            if isinstance(second, RequestFailure) and not second.hopeless:
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
        """Whether a reply shows that the server did not keep to the schema; counted and said."""
        if isinstance(answer, Reply) and answer.form is None:
            return False
        formless = isinstance(answer, RequestFailure) and answer.formless
        if (isinstance(answer, Reply) or formless) and (
            line := self._dialect.heard(formless=formless)
        ):
            self._note(f"{self.server.name}: {line}")
        return formless

    async def _answer(self, request: ChatRequest) -> ReplyOrFailure:
        """The answer to one request: from the record, or by as many attempts as it takes."""
        answer = await self._kept_or_asked(request)
        if isinstance(answer, RequestFailure):
            return answer
        if answer.form is not None:
            self.activity.read(answer.form)
        return replace(answer, key=request.key)

    async def _kept_or_asked(self, request: ChatRequest) -> ReplyOrFailure:
        kept = await self._calls.kept(request.key)
        if kept and (kept.kind == "reply" or not self._retry_kept):
            self.cached += 1
            return answer_from_record(kept, request)
        await self._look()
        nth = 0

        async def attempt() -> AttemptResult:
            nonlocal nth
            nth += 1
            return await self._attempt(request, nth)

        patience = self._patience
        retrying = AsyncRetrying(
            stop=patience.stop,
            wait=patience.wait,
            retry=retry_if_result(lambda came: came.again),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        came: AttemptResult = await retrying(attempt)
        return came.result

    async def _attempt(self, request: ChatRequest, nth: int) -> AttemptResult:
        """One attempt in a slot of its own, paid for and recorded before the slot is free."""
        async with self.limiter.slot() as slot:
            cost = self._most(request)
            if cost is None:
                return AttemptResult(
                    RequestFailure(
                        "no price",
                        (
                            f"The price of {request.model!r} is not known, so a budget cannot be "
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
            charged = cost  # until more is known
            try:
                row = call_rows.make_attempt_row(self._calls.number(), nth, request, cost)
                self._calls.keep(row)
                came = await self._send(request, slot)
                charged = amount_charged(came, cost)
                self._calls.keep(call_rows.make_outcome_row(row, came, charged))
            finally:
                await self._budget.settle(cost, charged)
            self._learn(came, slot)
            self._learn_length(came, request)
            if request.logprobs and came.text is not None:
                line = self._dialect.heard_logprobs(given=came.logprobs is not None)
                if line:
                    self._note(f"{self.server.name}: {line}")
            return came

    async def _send(self, request: ChatRequest, slot: CallSlot) -> AttemptResult:
        """The request in words that the server takes."""
        while True:
            body = self._dialect.body(request)
            with self.activity.call():
                came = await self._client.attempt(request, self._dialect, slot)
            result = came.result
            if not isinstance(result, RequestFailure) or result.kind != "rejected":
                return came
            if line := self._dialect.unlearn(body, result.sentence):
                self._note(f"{self.server.name}: {line}")
            elif body == self._dialect.body(request):  # nobody else has learnt meanwhile either
                return came

    def _most(self, request: ChatRequest) -> float | None:
        """What a call may cost at most, in US dollars; None where a cap needs an unknown price."""
        known = self._client.price
        if known is None:
            return 0.0 if self._budget.cap is None else None
        return known.of(request.longest, request.max_tokens)

    async def _look(self) -> None:
        """Ask the server about itself, once, before it is asked anything else."""
        async with self._looking:
            if self.facts is not None:
                return
            get, url = self._client.get_json, self.server.base_url
            self.facts = facts = await read_server_facts(get, url, self.model)
        if facts.slots:
            self.limiter.knows_slots(facts.slots)
        known = [n for n in (facts.context_tokens, self.context_tokens) if n]
        self.context_tokens = min(known, default=None)
        if facts.context_tokens:
            slots = f", {facts.slots} at once" if facts.slots else ""
            self._note(
                f"{self.server.name} takes questions of {facts.context_tokens:,} tokens{slots}."
            )

    def is_too_long(self, request: ChatRequest) -> bool:
        """Whether a request, with the longest reply, is known not to fit into the context."""
        if self.context_tokens is None or self._tokens_per_byte is None:
            return False
        tokens = request.n_bytes * self._tokens_per_byte + TEMPLATE_TOKENS + request.max_tokens
        return tokens > self.context_tokens

    def _learn_length(self, came: AttemptResult, request: ChatRequest) -> None:
        """Learn how many tokens the server makes of a byte, and the size of its context."""
        tokens = came.tokens_in
        if came.context:
            tokens = came.context.prompt_tokens
            if size := came.context.context_tokens:
                self.context_tokens = min(size, self.context_tokens or size)
        if tokens and request.n_bytes >= MIN_BYTES_TO_LEARN:
            rate = max(0, tokens - TEMPLATE_TOKENS) / request.n_bytes
            self._tokens_per_byte = max(rate, self._tokens_per_byte or 0.0)

    def _learn(self, came: AttemptResult, slot: CallSlot) -> None:
        """Let the number of calls in flight follow how the server fares."""
        if isinstance(came.result, RequestFailure) and came.result.kind in BUSY_MESSAGES:
            if self.limiter.refused(slot, came.wait_s):
                self._note(
                    f"{self.server.name} {BUSY_MESSAGES[came.result.kind]}: at most "
                    f"{self.limiter.limit} calls at once for now."
                )
        elif came.text is not None and came.latency_s is not None:
            self.activity.replied(came.latency_s, came.tokens_out)
            self.limiter.answered(slot, came.latency_s, came.tokens_in, came.tokens_out)

    def note_forms(self) -> None:
        """Say in the log how answers were found, unless all were bare JSON."""
        forms = self.activity.snapshot().read_as
        if set(forms) - {"json"}:
            told = ", ".join(
                f"{forms[name]} {REPLY_FORM_NAMES[name]}"
                for name in REPLY_FORM_NAMES
                if name in forms
            )
            self._note(f"{self.server.name}: answers were found as {told}.")

    def pause(self) -> None:
        """Send nothing more until `resume`; calls in flight go on."""
        self.limiter.pause()

    def resume(self) -> None:
        """Send calls again."""
        self.limiter.resume()


def is_task_cancelled() -> bool:
    """Whether somebody wants the present task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def amount_charged(came: AttemptResult, reserved: float) -> float:
    """What a budget counts: never less than what it cost."""
    if came.cost is not None:
        return came.cost
    return 0.0 if came.text is None and came.free else reserved


def answer_from_record(kept: call_rows.RecordedReply, request: ChatRequest) -> ReplyOrFailure:
    """The answer that a recorded reply is."""
    if kept.kind != "reply":
        formless = request.schema is not None and is_recorded_without_json(kept, request.schema)
        return RequestFailure(kept.kind, kept.sentence, cached=True, formless=formless)  # type: ignore[arg-type]
    said = None
    if kept.logprobs is not None:
        said = tuple(
            TokenLogprob(token, logprob, tuple((t, p) for t, p in top))
            for token, logprob, top in parse_json(kept.logprobs)
        )
    parsed = ParsedReply(None, "json")
    try:
        if request.schema is not None:
            parsed = parse_reply(kept.text, request.schema)
    except UnreadableReply as why:  # recorded by a version that read less strictly
        return RequestFailure("unreadable", str(why), cached=True)
    return Reply(
        kept.text,
        parsed.value,
        said,
        kept.tokens_in,
        kept.tokens_out,
        kept.cost,
        kept.latency_s,
        cached=True,
        form=parsed.form if request.schema is not None else None,
    )


def is_recorded_without_json(kept: call_rows.RecordedReply, schema: Mapping[str, Any]) -> bool:
    """Whether a recorded reply has no JSON, as only servers send that ignore schemas."""
    if kept.kind in REPETITION_KINDS:
        return begins_as_prose(kept.text)
    try:
        parse_reply(kept.text, schema)
    except ReplyWithoutJson:
        return kept.kind == "unreadable"
    except UnreadableReply:
        pass
    return False


@asynccontextmanager
async def open_asker(
    server: LlmServer,
    model: str,
    calls: CallLog,
    budget: CallBudget | None = None,
    *,
    table: Mapping[str, TokenPrice] | None = None,
    patience: RetryPolicy | None = None,
    retry_kept: bool = False,
    note: Callable[[str], None] | None = None,
) -> AsyncIterator[ServerAsker]:
    """An asker for a model of a server, until the block ends; on the event loop of the block.

    `budget` is shared by all askers of a job; without one there is no cap. With `retry_kept`,
    replies that were recorded and could not be used are asked for once more. `note` takes lines
    for the job's log. InputError where costly work is not allowed.
    """
    require_costly_work_allowed()
    from autointerp.llm.server_client import connect_to_server  # openai takes a second to import

    known = find_price(model, server, load_prices() if table is None else table)
    async with connect_to_server(server, known) as client:
        asker = ServerAsker(
            client,
            model,
            calls,
            budget or CallBudget(),
            patience=patience or RetryPolicy(),
            retry_kept=retry_kept,
            note=note or (lambda line: None),
        )
        try:
            yield asker
        finally:
            asker.note_forms()
