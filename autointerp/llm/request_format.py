"""The JSON body of a request in the format that a server accepts. It begins with all settings that
the server is configured for; whatever the server refuses or ignores (JSON schemas, log
probabilities, a seed, …) is left out from then on."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from autointerp.llm.requests_and_replies import ChatRequest
from autointerp.llm.server_settings import LlmServer
from feature_store.storable_text import replace_lone_surrogates

FIRST_DRAW_SEED = 1_000
TEXT_LENGTH_KEYWORDS = frozenset(("minLength", "maxLength"))
"""JSON Schema keywords that OpenAI's strict schemas refuse. Servers with a grammar follow them, and
then a text that runs in circles ends at its maximum length and not at the limit of tokens."""
LIMIT_KEYWORDS = TEXT_LENGTH_KEYWORDS | {"minItems", "maxItems", "minimum", "maximum"}
"""JSON Schema keywords that some servers refuse. A server that follows them cannot answer too many
items, so they are sent where possible; replies are validated against all of them here as well."""
NO_LOGPROBS_NOTE = "The server gives no log probabilities: answers are yes or no, without one."
RETRY_TEMPERATURE = 0.7
"""Temperature used instead of a penalty on repetition, for servers that accept no penalty."""
MAX_IGNORED_REPLIES = 2
"""Number of replies without JSON, and none with JSON, after which a server is known to ignore
schemas."""


@dataclass
class RequestFormat:
    """The request settings that one model of one server accepts. Begins with the server's
    configuration; each refusal removes one setting."""

    structured: bool = True
    logprobs: bool = True
    temperature: bool = True
    short_limit_name: bool = True
    """Whether the reply limit is called `max_tokens`, as on most servers, and not OpenAI's newer
    `max_completion_tokens`."""
    limits: bool = True
    """Whether JSON schemas are sent with LIMIT_KEYWORDS."""
    text_limits: bool = True
    """Whether JSON schemas are sent with TEXT_LENGTH_KEYWORDS."""
    penalty: bool = True
    """Whether the server accepts `frequency_penalty`."""
    seeds: bool = True
    candidates: int = 20
    """Maximum number of candidates per token for which log probabilities may be requested."""
    uses_example: bool = False
    """Whether the reply format is shown by an answered example, because the server ignores JSON
    schemas."""
    without_logprobs: int = 0
    """Number of replies in a row that lacked the requested log probabilities."""
    json_replies: int = 0
    """Number of JSON replies to requests with a schema."""
    replies_without_json: int = 0
    """Number of replies without JSON to requests with a schema."""

    @classmethod
    def from_server(cls, server: LlmServer) -> "RequestFormat":
        """Return the request format of a server by its configuration."""
        return cls(server.structured, server.logprobs, text_limits=server.text_limits)

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """Return the JSON body of a chat completion request in the format that the server
        accepts."""
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [
                {"role": message.role, "content": replace_lone_surrogates(message.content)}
                for message in request.messages
            ],
            "max_tokens" if self.short_limit_name else "max_completion_tokens": request.max_tokens,
        }
        if self.temperature:
            # a higher temperature also breaks repetition, though less reliably
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
    def is_undecided(self) -> bool:
        """Whether it is still unknown if the server follows the JSON schema of a request."""
        return not self.json_replies and not self.uses_example

    def count_schema_reply(self, *, without_json: bool) -> str:
        """Count a reply to a request with a JSON schema; return a line for the log where it shows
        that the server ignores schemas, otherwise an empty text."""
        self.replies_without_json += without_json
        self.json_replies += not without_json
        if (
            self.uses_example
            or self.json_replies
            or self.replies_without_json < MAX_IGNORED_REPLIES
        ):
            return ""
        self.uses_example = True
        return (
            "The server does not follow JSON schemas: from now on an answered example shows the "
            "form, and replies are checked here only."
        )

    def count_logprob_reply(self, given: bool) -> str:
        """Count a reply to a request for log probabilities; return a line for the log where it
        shows that the server gives none without refusing them, otherwise an empty text."""
        self.without_logprobs = 0 if given else self.without_logprobs + 1
        if not self.logprobs or self.without_logprobs < MAX_IGNORED_REPLIES:
            return ""
        self.logprobs = False
        return NO_LOGPROBS_NOTE

    def drop_rejected_setting(self, body: dict[str, Any], message: str) -> str:
        """Drop the setting that a status 400 or 422 names from the request format.

        Returns a line for the log, or an empty text where the message names nothing that can be
        left out.
        """
        message = message.lower()
        if "response_format" in body and any(n in message for n in ("response_format", "schema")):
            return self._drop_schema_setting(body["response_format"], message)
        if "logprobs" in body and "logprobs" in message:
            return self._drop_logprobs(body["top_logprobs"], message)
        # OpenAI names the replacement in its refusal
        if "max_tokens" in body and "max_completion_tokens" in message:
            self.short_limit_name = False
            return "The server requires max_completion_tokens instead of max_tokens."
        if "frequency_penalty" in body and "penalty" in message:
            self.penalty = False
            return (
                "The server accepts no penalty on repetition: a higher temperature is used instead."
            )
        if "temperature" in body and "temperature" in message:
            self.temperature = False
            return "The model accepts no temperature: its default is used."
        if "seed" in body and "seed" in message:
            self.seeds = False
            return "The server accepts no seed: replies cannot be reproduced."
        return ""

    def _drop_logprobs(self, sent: int, message: str) -> str:
        allowed = [
            int(number)
            for number in MAX_CANDIDATES_PATTERN.findall(message)
            if 0 < int(number) < sent
        ]
        if self.candidates < sent:
            return ""  # another call has dropped it meanwhile: the next body differs
        if allowed:
            self.candidates = max(allowed)
            return f"The server lists at most {self.candidates} candidates per token."
        self.logprobs = False
        return NO_LOGPROBS_NOTE

    def _drop_schema_setting(self, sent: dict[str, Any], message: str) -> str:
        def may_be_left_out(words: Collection[str]) -> bool:
            return remove_schema_keywords(sent, words) != sent and any(
                word.lower() in message for word in words
            )

        if may_be_left_out(TEXT_LENGTH_KEYWORDS):
            if not self.text_limits:
                return ""  # another call has dropped it meanwhile: the next body differs
            self.text_limits = False
            return "The server accepts no text lengths in JSON schemas: they are checked here only."
        if may_be_left_out(LIMIT_KEYWORDS):
            if not self.limits:
                return ""
            self.limits = False
            return "The server accepts no limits in JSON schemas: they are checked here only."
        self.structured = False
        return "The server accepts no JSON schema: replies are checked here only."


MAX_CANDIDATES_PATTERN = re.compile(
    r"(?:at most|no more than|up to|less than or equal to|<=|max\w*(?: allowed)?(?: is| of|:)?"
    r"|between \d+ and) *:? *(\d{1,3})\b"
)
"""Phrases by which servers name the maximum number of candidates that they list per token."""


def remove_schema_keywords(schema: Any, words: Collection[str]) -> Any:
    """Return the JSON schema of a request without some of its keywords; property names are never
    taken for keywords."""
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
