"""Check of a language-model server, for `saefari servers check`: two test questions show which
features the server supports. The first is a detection question with a JSON schema of digits and log
probabilities; the second an explanation question with a maximum length, asked twice with the same
seed. They are as long as a job's questions, so that their times predict how long a job takes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from autointerp.llm.concurrency_limit import ConcurrencyLimiter
from autointerp.llm.failure_kinds import FAILURE_KINDS
from autointerp.llm.request_format import RequestFormat
from autointerp.llm.requests_and_replies import (
    AttemptResult,
    ChatMessage,
    ChatRequest,
    Reply,
    RequestFailure,
)
from autointerp.llm.server_activity import ServerActivity
from autointerp.llm.server_client import ServerClient, connect_to_server
from autointerp.llm.server_facts import ServerFacts, read_server_facts
from autointerp.llm.server_settings import LlmServer
from autointerp.llm.token_prices import TokenPrice

LOGPROB_CANDIDATES = 20
MAX_ANSWER_CHARS = 60
"""Maximum number of characters of the answer to the check's second question."""
CHECK_TEXTS = (
    "The cat sat on the mat and looked at the rain.",
    "Interest rates rose by half a point.",
    "A dog barked at the postman in the yard.",
    "He paid the tax late and had to pay more.",
    "The sea was blue and the sun stood high.",
)
DIGITS_SCHEMA = {
    "type": "object",
    "properties": {
        "answers": {
            "type": "array",
            "items": {"type": "integer", "enum": [1, 0]},
            "minItems": len(CHECK_TEXTS),
            "maxItems": len(CHECK_TEXTS),
        }
    },
    "required": ["answers"],
    "additionalProperties": False,
}
EXPLANATION_SCHEMA = {
    "type": "object",
    "properties": {
        "explanation": {"type": "string", "minLength": 1, "maxLength": MAX_ANSWER_CHARS}
    },
    "required": ["explanation"],
    "additionalProperties": False,
}
CALLS_PER_FEATURE = {"explain": 1, "score by detection": 120}
"""Maximum number of calls for one feature: a score is of 150 windows, five per call, for one label
and three baseline labels."""


@dataclass(frozen=True)
class ServerCheck:
    """Result of a server check: what the server supports, how fast it is, and what 100 features
    would cost. None means not known."""

    server: str
    base_url: str
    model: str
    facts: ServerFacts
    problem: str = ""
    """Why the server could not be checked, and what would help; empty where it answered."""
    schema: bool | None = None
    """Whether replies follow a JSON schema."""
    text_limits: bool | None = None
    """Whether a text in a reply ends at the maximum length of the schema."""
    read_as: str = ""
    """How the first answer was found: `json`, `prose`, `line`, or the kind of failure."""
    candidates: int | None = None
    """Number of candidates per token that come with log probabilities; 0 for none."""
    seeds: bool | None = None
    """Whether the same seed gave the same reply at temperature 1."""
    counts_tokens: bool | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds per question of each kind, asked one at a time."""
    tokens: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Tokens of the question and of the reply, by kind of question."""
    cost_of_100: Mapping[str, float | None] = field(default_factory=dict)
    """US dollars for 100 features; None where prices or tokens are not known."""
    notes: tuple[str, ...] = ()
    """Settings that the server does not accept, and remarks on its replies."""

    def to_json(self) -> dict[str, Any]:
        """Return the result of the server check as plain data."""
        return asdict(self)

    def hours_of_100(self, kind: str) -> float | None:
        """Return the estimated hours that one `kind` of work (explaining or scoring) takes for 100
        features on the checked server, with as many calls at a time as it has slots; None where
        nothing was measured."""
        if kind not in self.seconds:
            return None
        calls = 100 * CALLS_PER_FEATURE[kind]
        return self.seconds[kind] * calls / (self.facts.slots or 1) / 3600


def make_detection_question(model: str) -> ChatRequest:
    """Return the first question of the server check: detection on a few texts, with log
    probabilities."""
    items = "\n".join(f'{n}. "{text}"' for n, text in enumerate(CHECK_TEXTS, 1))
    prompt = (
        'A feature of a language model fires on some tokens of some texts. Its description: "words '
        f'for animals". Here are {len(CHECK_TEXTS)} texts:\n\n{items}\n\nFor each text decide '
        f"whether "
        "the feature fires in it: 1 if it does, 0 if not. Answer with one JSON object and nothing "
        f'else, {{"answers": [...]}}, that holds exactly {len(CHECK_TEXTS)} digits.'
    )
    return ChatRequest(
        (ChatMessage("user", prompt),), model, 0.0, 128, DIGITS_SCHEMA, LOGPROB_CANDIDATES
    )


def make_explanation_question(model: str) -> ChatRequest:
    """Return the second question of the server check: an explanation that asks for more text than
    its JSON schema allows."""
    items = "\n".join(f'{n}. "{text}"' for n, text in enumerate(CHECK_TEXTS, 1))
    prompt = (
        f"Here are {len(CHECK_TEXTS)} texts:\n\n{items}\n\nSay at length, in at least a hundred "
        'words, what they have in common. Answer with one JSON object, {"explanation": "..."}.'
    )
    return ChatRequest((ChatMessage("user", prompt),), model, 1.0, 200, EXPLANATION_SCHEMA, draw=1)


async def check_server(server: LlmServer, model: str, price: TokenPrice | None) -> ServerCheck:
    """Check a server: ask it two test questions, one of them twice, and return which features it
    supports.

    Without a model's name, the server's only model is asked.
    """
    async with connect_to_server(server, price) as client:
        facts = await read_server_facts(client.get_json, server.base_url, model)
        model = model or (facts.models[0] if len(facts.models) == 1 else "")
        check = ServerCheck(server.name, server.base_url, model, facts)
        if not model:
            models = ", ".join(facts.models[:8]) or "the server lists none"
            return replace(check, problem=f"Name the model to ask by --model NAME ({models}).")
        return await ask_check_questions(client, check)


async def ask_check_questions(client: ServerClient, check: ServerCheck) -> ServerCheck:
    """Ask the test questions of the server check, and return the check with the findings from the
    replies."""
    request_format, notes = RequestFormat.from_server(client.server), []
    # switched on whatever the configuration says: the check finds out whether they are accepted
    request_format.structured = request_format.logprobs = request_format.text_limits = True
    first = await ask_until_accepted(
        client, request_format, make_detection_question(check.model), notes
    )
    if first.text is None:
        assert isinstance(first.result, RequestFailure)
        advice = FAILURE_KINDS[first.result.kind].help
        return replace(check, problem=f"{first.result.sentence} {advice}", notes=tuple(notes))
    second = await ask_until_accepted(
        client, request_format, make_explanation_question(check.model), notes
    )
    third = await ask_until_accepted(
        client, request_format, make_explanation_question(check.model), notes
    )
    pairs = {"score by detection": first, "explain": second}
    replies = {kind: attempt for kind, attempt in pairs.items() if attempt.text is not None}
    tokens = {
        kind: (attempt.tokens_in, attempt.tokens_out)
        for kind, attempt in replies.items()
        if attempt.tokens_in is not None and attempt.tokens_out is not None
    }
    seconds = {
        kind: attempt.latency_s
        for kind, attempt in replies.items()
        if attempt.latency_s is not None
    }
    # at temperature 1 two equal replies mean that the seed was used
    same_reply = second.text is not None and second.text == third.text
    listed = [len(token.top) for token in first.logprobs or ()]
    return replace(
        check,
        schema=replies_keep_schema(first, second) and request_format.structured,
        text_limits=reply_keeps_length_limit(second)
        and request_format.text_limits
        and request_format.limits,
        read_as=describe_reply_form(first.result),
        candidates=max(listed, default=0),
        seeds=same_reply and request_format.seeds,
        counts_tokens=bool(tokens),
        seconds=seconds,
        tokens=tokens,
        cost_of_100={
            kind: client.price.cost_of(*n) * 100 * CALLS_PER_FEATURE[kind] if client.price else None
            for kind, n in tokens.items()
        },
        notes=tuple(notes),
    )


async def ask_until_accepted(
    client: ServerClient, request_format: RequestFormat, request: ChatRequest, notes: list[str]
) -> AttemptResult:
    """Ask one test question, and repeat it without the rejected setting as long as the server names
    one."""
    request = request.to(client.server.base_url, request.model)
    while True:
        body = request_format.body(request)
        async with ConcurrencyLimiter(1, ServerActivity(1)).slot() as slot:
            attempt = await client.attempt(request, request_format, slot)
        if not (isinstance(attempt.result, RequestFailure) and attempt.result.kind == "rejected"):
            return attempt
        line = request_format.drop_rejected_setting(body, attempt.result.sentence)
        if not line:
            return attempt
        notes.append(line)


def replies_keep_schema(*replies: AttemptResult) -> bool:
    """Return whether all replies to the server check were bare JSON, as a server sends that follows
    schemas."""
    return not any(
        attempt.result.without_json
        if isinstance(attempt.result, RequestFailure)
        else attempt.result.form != "json"
        for attempt in replies
        if attempt.text is not None
    )


def reply_keeps_length_limit(attempt: AttemptResult) -> bool:
    """Return whether the server ended the long answer at the schema's maximum length: it is then
    complete JSON, but read as cut off."""
    whole = attempt.text is not None and attempt.text.rstrip().endswith("}")
    return whole and (
        isinstance(attempt.result, Reply) or attempt.result.kind in ("cut off", "repeats")
    )


def describe_reply_form(result: Reply | RequestFailure) -> str:
    """Return the form in which an answer to the server check was found, or the kind of its
    failure."""
    return result.form or "" if isinstance(result, Reply) else result.kind
