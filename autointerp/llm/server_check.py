"""Two questions to a server, and what its answers say of what works there.

The first is one of detection, with a JSON schema of digits and log probabilities; the second one of
an explanation, with a bound on its length, put twice with the same seed. They are as long as those
of a job, so that their times say how long a job would take.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from autointerp.llm.concurrency_limit import ConcurrencyLimiter
from autointerp.llm.failure_kinds import FAILURE_KINDS
from autointerp.llm.records import AttemptResult, ChatMessage, ChatRequest, Reply, RequestFailure
from autointerp.llm.request_format import RequestFormat
from autointerp.llm.server_activity import ServerActivity
from autointerp.llm.server_client import ServerClient, connect_to_server
from autointerp.llm.server_facts import ServerFacts, read_server_facts
from autointerp.llm.server_settings import LlmServer
from autointerp.llm.token_prices import TokenPrice

LOGPROB_CANDIDATES = 20
MAX_ANSWER_CHARS = 60
"""Characters that the second question's answer may have."""
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
"""Calls of one feature at most: a score is of 150 windows, five a call, for a label and three
baseline labels."""


@dataclass(frozen=True)
class ServerCheck:
    """What a server was found to do. None: not known."""

    server: str
    base_url: str
    model: str
    facts: ServerFacts
    problem: str = ""
    """Why it could not be asked, and what would help; empty where it answered."""
    schema: bool | None = None
    """Whether replies keep to a JSON schema."""
    text_limits: bool | None = None
    """Whether a text in a reply ends at the length that the schema allows."""
    read_as: str = ""
    """How the first answer was found: `json`, `prose`, `line`, or why it was none."""
    candidates: int | None = None
    """Candidates per token that come with log probabilities; 0 for none."""
    seeds: bool | None = None
    """Whether the same seed gave the same reply at temperature 1."""
    counts_tokens: bool | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds of one question of each kind, one at a time."""
    tokens: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Tokens of the question and of the reply, by kind."""
    cost_of_100: Mapping[str, float | None] = field(default_factory=dict)
    """US dollars for 100 features; None where prices or tokens are not known."""
    notes: tuple[str, ...] = ()
    """What the server does not take, and what its answers were like."""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def hours_of_100(self, kind: str) -> float | None:
        """Hours for 100 features, one call at a time or as many as it has slots for."""
        if kind not in self.seconds:
            return None
        calls = 100 * CALLS_PER_FEATURE[kind]
        return self.seconds[kind] * calls / (self.facts.slots or 1) / 3600


def make_detection_question(model: str) -> ChatRequest:
    """Return the question of detection."""
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
    """Return the question of an explanation, which asks for more than the schema lets in."""
    items = "\n".join(f'{n}. "{text}"' for n, text in enumerate(CHECK_TEXTS, 1))
    prompt = (
        f"Here are {len(CHECK_TEXTS)} texts:\n\n{items}\n\nSay at length, in at least a hundred "
        f"words, "
        'what they have in common. Answer with one JSON object, {"explanation": "..."}.'
    )
    return ChatRequest((ChatMessage("user", prompt),), model, 1.0, 200, EXPLANATION_SCHEMA, draw=1)


async def check_server(server: LlmServer, model: str, price: TokenPrice | None) -> ServerCheck:
    """Ask a server two questions, one of them twice, and return what they say of it.

    Without a model's name the only one that the server lists is asked.
    """
    async with connect_to_server(server, price) as client:
        facts = await read_server_facts(client.get_json, server.base_url, model)
        model = model or (facts.models[0] if len(facts.models) == 1 else "")
        check = ServerCheck(server.name, server.base_url, model, facts)
        if not model:
            there = ", ".join(facts.models[:8]) or "the server lists none"
            return replace(check, problem=f"Say which model to ask: --model NAME ({there}).")
        return await ask_check_questions(client, check)


async def ask_check_questions(client: ServerClient, check: ServerCheck) -> ServerCheck:
    """Put the questions and read the answers."""
    dialect, notes = RequestFormat.of(client.server), []
    dialect.structured = dialect.logprobs = dialect.text_limits = True  # what is to be found out
    first = await ask_until_accepted(client, dialect, make_detection_question(check.model), notes)
    if first.text is None:
        assert isinstance(first.result, RequestFailure)
        helped = FAILURE_KINDS[first.result.kind].help
        return replace(check, problem=f"{first.result.sentence} {helped}", notes=tuple(notes))
    second = await ask_until_accepted(
        client, dialect, make_explanation_question(check.model), notes
    )
    third = await ask_until_accepted(client, dialect, make_explanation_question(check.model), notes)
    pairs = {"score by detection": first, "explain": second}
    told = {kind: came for kind, came in pairs.items() if came.text is not None}
    tokens = {
        kind: (came.tokens_in, came.tokens_out)
        for kind, came in told.items()
        if came.tokens_in is not None and came.tokens_out is not None
    }
    seconds = {kind: came.latency_s for kind, came in told.items() if came.latency_s is not None}
    same = second.text is not None and second.text == third.text
    listed = [len(said.top) for said in first.logprobs or ()]
    return replace(
        check,
        schema=replies_keep_schema(first, second) and dialect.structured,
        text_limits=reply_keeps_length_limit(second) and dialect.text_limits and dialect.limits,
        read_as=describe_reply_form(first.result),
        candidates=max(listed, default=0),
        seeds=same and dialect.seeds,
        counts_tokens=bool(tokens),
        seconds=seconds,
        tokens=tokens,
        cost_of_100={
            kind: client.price.of(*n) * 100 * CALLS_PER_FEATURE[kind] if client.price else None
            for kind, n in tokens.items()
        },
        notes=tuple(notes),
    )


async def ask_until_accepted(
    client: ServerClient, dialect: RequestFormat, request: ChatRequest, notes: list[str]
) -> AttemptResult:
    """One question, put again as long as the server says what it does not take."""
    request = request.to(client.server.base_url, request.model)
    while True:
        body = dialect.body(request)
        async with ConcurrencyLimiter(1, ServerActivity(1)).slot() as slot:
            came = await client.attempt(request, dialect, slot)
        if not (isinstance(came.result, RequestFailure) and came.result.kind == "rejected"):
            return came
        line = dialect.unlearn(body, came.result.sentence)
        if not line:
            return came
        notes.append(line)


def replies_keep_schema(*told: AttemptResult) -> bool:
    """Whether no reply came as anything but the JSON that was asked for."""
    return not any(
        came.result.formless
        if isinstance(came.result, RequestFailure)
        else came.result.form != "json"
        for came in told
        if came.text is not None
    )


def reply_keeps_length_limit(came: AttemptResult) -> bool:
    """Whether the long answer was ended at its bound: read here as cut off, but as whole JSON."""
    whole = came.text is not None and came.text.rstrip().endswith("}")
    return whole and (isinstance(came.result, Reply) or came.result.kind in ("cut off", "repeats"))


def describe_reply_form(result: Reply | RequestFailure) -> str:
    """How an answer was found, or why there was none."""
    return result.form or "" if isinstance(result, Reply) else result.kind
