"""How explainers ask a language model for one sentence, and what of its reply is taken."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Template

from autointerp.asking.records import Asker, Failed, Message, Reply, Request, is_too_long
from autointerp.asking.shortening import put_shorter_if_too_long
from autointerp.explainers.fitting import ShownWindows, fitting_windows
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
        (Message("user", sheet(name).fill(**fields)),),
        schema=SCHEMA,
        purpose="explain",
        max_tokens=REPLY_TOKENS + tools.thinking,
        temperature=temperature,
        draw=draw,
    )


async def said(
    explainer: str,
    tools: Tools,
    shown: Sequence[Example],
    render: Callable[[ShownWindows], Mapping[str, object]],
    *,
    temperature: float = 0.0,
    draw: int = 0,
    cut: bool = True,
) -> Explained | Failed:
    """One sentence by the prompt of an explainer's name, written from the windows `shown`.

    `render` makes the prompt's fields of windows. Where the question does not fit into the server's
    context, it is put with fewer windows, then with shorter ones unless `cut` is False; the
    explanation's `detail` says so.
    """
    ask = asker(tools, explainer)

    def put(version: ShownWindows) -> Request:
        fields = render(version)
        return question(explainer, tools, temperature=temperature, draw=draw, **fields)

    version, request, reply = await ask_fitting(ask, list(fitting_windows(shown, cut=cut)), put)
    text = taken(reply)
    if isinstance(text, Failed):
        return text
    server = getattr(getattr(ask, "server", None), "base_url", "")  # a stand-in has none
    call = (isinstance(reply, Reply) and reply.key) or request.to(server, ask.model).key
    keys = tuple(shown[i].key for i in version.places)
    detail = {}
    if len(version.windows) < len(shown) or version.width:
        detail = {"windows": len(version.windows), "of": len(shown), "width": version.width}
    return Explained(
        text,
        explainer,
        ask.model,
        sheet(explainer).version,
        keys,
        (call,),
        {"cut to the context": detail} if detail else {},
    )


async def ask_fitting(
    ask: Asker, versions: Sequence[ShownWindows], put: Callable[[ShownWindows], Request]
) -> tuple[ShownWindows, Request, Reply | Failed]:
    """Ask with the first version of the windows that fits into the server's context."""
    *longer, shortest = versions
    for version in longer:
        request = put(version)
        if is_too_long(ask, request):
            continue
        with put_shorter_if_too_long():
            reply = await ask.ask(request)
        if not (isinstance(reply, Failed) and reply.kind == "context size"):
            return version, request, reply
    request = put(shortest)
    return shortest, request, await ask.ask(request)


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
