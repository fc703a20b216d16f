"""What a request looks like to a server, less what that server was found not to take."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from autointerp.asking.records import Request
from feature_store.storable_text import replace_lone_surrogates

SEED_OF_DRAW = 1_000
NEVER = frozenset(("minLength", "maxLength"))
"""Words of JSON Schema that OpenAI's strict schemas refuse; replies are held against them here."""
LIMITS = frozenset(("minItems", "maxItems", "minimum", "maximum"))
"""Words that some servers refuse. They are worth sending: a server that follows them cannot answer
too many items."""


@dataclass
class Dialect:
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

    def body(self, request: Request) -> dict[str, Any]:
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
            body["temperature"] = request.temperature
        if request.draw:
            body["seed"] = SEED_OF_DRAW + request.draw
        if request.schema is not None and self.structured:
            schema = without(request.schema, NEVER if self.limits else NEVER | LIMITS)
            form = {"name": "answer", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if request.logprobs and self.logprobs:
            body |= {"logprobs": True, "top_logprobs": request.logprobs}
        return body

    def unlearn(self, body: dict[str, Any], message: str) -> str:
        """After a status 400 or 422: leave out what its message names.

        Gives a line for the log, or nothing where the message names nothing that can be left out.
        """
        said = message.lower()
        if "response_format" in body and any(n in said for n in ("response_format", "schema")):
            return self._unlearn_schema(body["response_format"], said)
        if "logprobs" in body and "logprobs" in said:
            self.logprobs = False
            return "The server gives no log probabilities: answers are yes or no, without one."
        if "max_tokens" in body and "max_completion_tokens" in said:
            self.short_name = False
            return "The server wants max_completion_tokens instead of max_tokens."
        if "temperature" in body and "temperature" in said:
            self.temperature = False
            return "The model takes no temperature: its own is in force."
        return ""

    def _unlearn_schema(self, sent: dict[str, Any], said: str) -> str:
        if without(sent, LIMITS) != sent and any(word.lower() in said for word in LIMITS):
            if not self.limits:
                return ""  # another call has learnt it meanwhile: the next body is a new one
            self.limits = False
            return "The server takes no limits in JSON schemas: lengths are checked here alone."
        self.structured = False
        return "The server takes no JSON schema: replies are checked here alone."


def without(schema: Any, words: Collection[str]) -> Any:
    """A JSON schema less some of its words; names of properties are no words."""
    if isinstance(schema, list | tuple):
        return [without(part, words) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        word: {name: without(one, words) for name, one in part.items()}
        if word == "properties" else without(part, words)
        for word, part in schema.items() if word not in words
    }  # fmt: skip
