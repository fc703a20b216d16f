"""Askers over a local server, ready in milliseconds, for tests."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autointerp.llm import (
    CallBudget,
    CallLog,
    ChatMessage,
    ChatRequest,
    LlmServer,
    Reply,
    RequestFailure,
    RetryPolicy,
    open_asker,
)
from autointerp.llm.token_prices import TokenPrice

QUICK = RetryPolicy(attempts=3, refusals=6, first_s=0.01, longest_s=0.02)
ANSWERS = {
    "type": "object",
    "properties": {
        "answers": {
            "type": "array",
            "items": {"type": "integer", "enum": [0, 1]},
            "minItems": 2,
            "maxItems": 2,
        }
    },
    "required": ["answers"],
    "additionalProperties": False,
}


def question(text: str = "Which?", **settings: Any) -> ChatRequest:
    """A request with a schema of two digits, unless told otherwise."""
    return ChatRequest((ChatMessage("user", text),), **({"schema": ANSWERS} | settings))


def ask(
    base_url: str,
    path: Path,
    requests: Sequence[ChatRequest],
    *,
    budget: CallBudget | None = None,
    others: Sequence[Path] = (),
    notes: list[str] | None = None,
    **options: Any,
) -> list[Reply | RequestFailure]:
    """Ask all at once; the answers in order. `options` are the server's, or `asking`'s."""
    said = notes if notes is not None else []
    mine = {n: options.pop(n) for n in ("table", "retry_recorded", "retry_policy") if n in options}

    async def run() -> list[Reply | RequestFailure]:
        server = LlmServer("test", base_url, **options)
        with CallLog(path, others=others, note=said.append) as calls:
            settings = {"retry_policy": QUICK, "note": said.append, "budget": budget} | mine
            async with open_asker(server, "m", calls, **settings) as asker:
                return await asyncio.gather(*map(asker.ask, requests))

    return asyncio.run(run())


def one(base_url: str, path: Path, request: ChatRequest | None = None, **options: Any) -> Any:
    """The answer to one question."""
    return ask(base_url, path, [request or question()], **options)[0]


DEAR = {"m": TokenPrice(1000.0, 1000.0)}
"""$1 for a thousand tokens."""
