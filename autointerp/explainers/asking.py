"""How explainers ask a language model for one sentence, and what of its reply is taken."""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from string import Template

from autointerp.asking.records import Asker, Failed, Message, Reply, Request
from autointerp.explainers.records import Explained, Tools
from autointerp.scorers.sheets import Sheet
from autointerp.windows import Example
from feature_store.errors import InputError

PROMPTS = Path(__file__).parent.with_name("prompts")
LONGEST = 300
"""Characters of an explanation; the prompts ask for no more than 200."""
REPLY_TOKENS = 200
SCHEMA = {
    "type": "object",
    "properties": {"explanation": {"type": "string", "minLength": 1, "maxLength": LONGEST}},
    "required": ["explanation"],
    "additionalProperties": False,
}


@cache
def sheet(name: str) -> Sheet:
    """The prompt file `explain_<name>.md`, with dashes as underscores."""
    file = f"explain_{name.replace('-', '_')}.md"
    text = (PROMPTS / file).read_text(encoding="utf-8")
    return Sheet(Template(text), f"{file} {hashlib.sha256(text.encode()).hexdigest()[:8]}")


def asker(tools: Tools, explainer: str) -> Asker:
    """Who answers. InputError without a language model."""
    if tools.ask is None:
        raise InputError(f"The explainer {explainer!r} asks a language model: name one by --model.")
    return tools.ask


def question(
    name: str, tools: Tools, *, temperature: float = 0.0, draw: int = 0, **fields: object
) -> Request:
    """The prompt `name` with its fields, as a request for {"explanation": …}."""
    return Request(
        (Message("user", sheet(name).fill(**fields)),), schema=SCHEMA, purpose="explain",
        max_tokens=REPLY_TOKENS + tools.thinking, temperature=temperature, draw=draw,
    )  # fmt: skip


async def said(
    explainer: str, tools: Tools, shown: Sequence[Example], *, temperature: float = 0.0,
    draw: int = 0, **fields: object,
) -> Explained | Failed:  # fmt: skip
    """One sentence by the prompt of an explainer's name, written from the windows `shown`."""
    ask = asker(tools, explainer)
    request = question(explainer, tools, temperature=temperature, draw=draw, **fields)
    text = taken(await ask.ask(request))
    if isinstance(text, Failed):
        return text
    keys = tuple(example.key for example in shown)
    server = getattr(getattr(ask, "server", None), "base_url", "")  # a stand-in has none
    call = request.to(server, ask.model).key
    return Explained(text, explainer, ask.model, sheet(explainer).version, keys, (call,))


def taken(reply: Reply | Failed) -> str | Failed:
    """The sentence of a reply on one line; a failure where it is too long. Nothing is put in its
    place, and nothing is cut off."""
    if isinstance(reply, Failed):
        return reply
    text = " ".join(reply.parsed["explanation"].split())
    if len(text) > LONGEST:
        problem = f"The explanation has {len(text)} characters; at most {LONGEST} are taken."
        return Failed("unreadable", problem)
    return text
