"""What a request looks like to a server, less what that server was found not to take."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from autointerp.llm.records import ChatRequest
from autointerp.llm.server_settings import LlmServer
from feature_store.storable_text import replace_lone_surrogates

FIRST_DRAW_SEED = 1_000
TEXT_LENGTH_KEYWORDS = frozenset(("minLength", "maxLength"))
"""Words of JSON Schema that OpenAI's strict schemas refuse. Servers with a grammar follow them, and
then a text that runs in circles ends at its bound instead of at the limit of tokens."""
LIMIT_KEYWORDS = TEXT_LENGTH_KEYWORDS | {"minItems", "maxItems", "minimum", "maximum"}
"""Words that some servers refuse. They are worth sending: a server that follows them cannot answer
too many items. Replies are held against all of them here, too."""
NO_LOGPROBS_NOTE = "The server gives no log probabilities: answers are yes or no, without one."
RETRY_TEMPERATURE = 0.7
"""Temperature in place of a penalty on repetition, for servers that take none."""
MAX_IGNORED_REPLIES = 2
"""After so many replies without JSON, and none with, a server is known to ignore schemas."""


@dataclass
class RequestFormat:
    """What a server takes. Starts from its configuration; a refusal unlearns one thing at a time.

    Belongs to one model of one server.
    """

    structured: bool = True
    logprobs: bool = True
    temperature: bool = True
    short_name: bool = True
    """`max_tokens`, as most servers say, rather than OpenAI's newer `max_completion_tokens`."""
    limits: bool = True
    """Whether schemas go out with their LIMITS."""
    text_limits: bool = True
    """Whether schemas go out with their TEXT_LIMITS."""
    penalty: bool = True
    """Whether `frequency_penalty` is taken."""
    seeds: bool = True
    candidates: int = 20
    """For how many candidates per token log probabilities may be asked."""
    in_words: bool = False
    """Whether the form of replies is shown by an example, as schemas are ignored."""
    without_logprobs: int = 0
    """Replies in a row that came without the log probabilities asked for."""
    formed: int = 0
    """Replies of JSON to a request with a schema."""
    formless: int = 0
    """Replies without any."""

    @classmethod
    def of(cls, server: LlmServer) -> "RequestFormat":
        """Return what a server is configured to take."""
        return cls(server.structured, server.logprobs, text_limits=server.text_limits)

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """The JSON to send."""
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [
                {"role": message.role, "content": replace_lone_surrogates(message.content)}
                for message in request.messages
            ],
            "max_tokens" if self.short_name else "max_completion_tokens": request.max_tokens,
        }
        if self.temperature:
            warm = request.penalty and not self.penalty
            body["temperature"] = (
                max(request.temperature, RETRY_TEMPERATURE) if warm else request.temperature
            )
        if request.penalty and self.penalty:
            body["frequency_penalty"] = request.penalty
        if self.seeds and (request.draw or request.penalty):
            body["seed"] = FIRST_DRAW_SEED + request.draw
        if request.schema is not None and self.structured:
            form = {"name": "answer", "strict": True, "schema": self._schema(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if request.logprobs and self.logprobs:
            candidates = min(request.logprobs, self.candidates)
            body |= {"logprobs": True, "top_logprobs": candidates}
        return body

    def _schema(self, schema: Mapping[str, Any]) -> Any:
        if not self.limits:
            return remove_schema_keywords(schema, LIMIT_KEYWORDS)
        return schema if self.text_limits else remove_schema_keywords(schema, TEXT_LENGTH_KEYWORDS)

    @property
    def undecided(self) -> bool:
        """Whether it is not known yet if the server keeps to schemas."""
        return not self.formed and not self.in_words

    def heard(self, *, formless: bool) -> str:
        """Count a reply to a request with a schema; a line for the log where it says that the
        server ignores schemas."""
        self.formless += formless
        self.formed += not formless
        if self.in_words or self.formed or self.formless < MAX_IGNORED_REPLIES:
            return ""
        self.in_words = True
        return (
            "The server does not keep to JSON schemas: from now on an answered example shows the "
            "form, and replies are checked here alone."
        )

    def heard_logprobs(self, given: bool) -> str:
        """Count a reply to a request for log probabilities; a line for the log where it says that
        the server gives none, without refusing them."""
        self.without_logprobs = 0 if given else self.without_logprobs + 1
        if not self.logprobs or self.without_logprobs < MAX_IGNORED_REPLIES:
            return ""
        self.logprobs = False
        return NO_LOGPROBS_NOTE

    def unlearn(self, body: dict[str, Any], message: str) -> str:
        """After a status 400 or 422: leave out what its message names.

        Gives a line for the log, or nothing where the message names nothing that can be left out.
        """
        said = message.lower()
        if "response_format" in body and any(n in said for n in ("response_format", "schema")):
            return self._unlearn_schema(body["response_format"], said)
        if "logprobs" in body and "logprobs" in said:
            return self._unlearn_logprobs(body["top_logprobs"], said)
        if "max_tokens" in body and "max_completion_tokens" in said:
            self.short_name = False
            return "The server wants max_completion_tokens instead of max_tokens."
        if "frequency_penalty" in body and "penalty" in said:
            self.penalty = False
            return "The server takes no penalty on repetition: a higher temperature is used."
        if "temperature" in body and "temperature" in said:
            self.temperature = False
            return "The model takes no temperature: its own is in force."
        if "seed" in body and "seed" in said:
            self.seeds = False
            return "The server takes no seed: replies cannot be drawn again."
        return ""

    def _unlearn_logprobs(self, sent: int, said: str) -> str:
        allowed = [
            int(number) for number in MAX_CANDIDATES_PATTERN.findall(said) if 0 < int(number) < sent
        ]
        if self.candidates < sent:
            return ""  # another call has learnt it meanwhile: the next body is a new one
        if allowed:
            self.candidates = max(allowed)
            return f"The server lists at most {self.candidates} candidates per token."
        self.logprobs = False
        return NO_LOGPROBS_NOTE

    def _unlearn_schema(self, sent: dict[str, Any], said: str) -> str:
        def may_be_left_out(words: Collection[str]) -> bool:
            return remove_schema_keywords(sent, words) != sent and any(
                word.lower() in said for word in words
            )

        if may_be_left_out(TEXT_LENGTH_KEYWORDS):
            if not self.text_limits:
                return ""  # another call has learnt it meanwhile: the next body is a new one
            self.text_limits = False
            return "The server takes no length of texts in JSON schemas: it is checked here alone."
        if may_be_left_out(LIMIT_KEYWORDS):
            if not self.limits:
                return ""
            self.limits = False
            return "The server takes no limits in JSON schemas: lengths are checked here alone."
        self.structured = False
        return "The server takes no JSON schema: replies are checked here alone."


MAX_CANDIDATES_PATTERN = re.compile(
    r"(?:at most|no more than|up to|less than or equal to|<=|max\w*(?: allowed)?(?: is| of|:)?"
    r"|between \d+ and) *:? *(\d{1,3})\b"
)
"""How servers name the most candidates that they list."""


def remove_schema_keywords(schema: Any, words: Collection[str]) -> Any:
    """A JSON schema less some of its words; names of properties are no words."""
    if isinstance(schema, list | tuple):
        return [remove_schema_keywords(part, words) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        word: {name: remove_schema_keywords(one, words) for name, one in part.items()}
        if word == "properties"
        else remove_schema_keywords(part, words)
        for word, part in schema.items()
        if word not in words
    }
