"""Answers from recorded replies: turns a reply in the call log back into the answer to a request,
so that no question is asked twice."""

from collections.abc import Mapping
from typing import Any

from autointerp.llm.call_rows import RecordedReply
from autointerp.llm.failure_kinds import REPETITION_KINDS
from autointerp.llm.reply_parser import (
    ParsedReply,
    ReplyWithoutJson,
    UnreadableReply,
    begins_as_prose,
    parse_reply,
)
from autointerp.llm.requests_and_replies import ChatRequest, Reply, RequestFailure, TokenLogprob
from feature_store.strict_json import parse_json


def answer_from_record(recorded: RecordedReply, request: ChatRequest) -> Reply | RequestFailure:
    """Return the answer to a request from the recorded reply in the call log, whose text is parsed
    again by the request's JSON schema; a failure where a failed call was recorded."""
    if recorded.kind != "reply":
        schema = request.schema
        without_json = schema is not None and is_recorded_without_json(recorded, schema)
        kind: Any = recorded.kind  # a FailureKindName: the call log has it as a plain text
        return RequestFailure(kind, recorded.sentence, cached=True, without_json=without_json)
    logprobs = None
    if recorded.logprobs is not None:
        logprobs = tuple(
            TokenLogprob(token, logprob, tuple((t, p) for t, p in top))
            for token, logprob, top in parse_json(recorded.logprobs)
        )
    parsed = ParsedReply(None, "json")
    try:
        if request.schema is not None:
            parsed = parse_reply(recorded.text, request.schema)
    except UnreadableReply as why:  # recorded by a version with a less strict parser
        return RequestFailure("unreadable", str(why), cached=True)
    return Reply(
        recorded.text,
        parsed.value,
        logprobs,
        recorded.tokens_in,
        recorded.tokens_out,
        recorded.cost,
        recorded.latency_s,
        cached=True,
        form=parsed.form if request.schema is not None else None,
    )


def is_recorded_without_json(recorded: RecordedReply, schema: Mapping[str, Any]) -> bool:
    """Return whether a recorded reply contains no JSON, as only servers send that ignore JSON
    schemas."""
    if recorded.kind in REPETITION_KINDS:
        return begins_as_prose(recorded.text)
    try:
        parse_reply(recorded.text, schema)
    except ReplyWithoutJson:
        return recorded.kind == "unreadable"
    except UnreadableReply:
        pass
    return False
