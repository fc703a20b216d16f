"""Request of an explanation: how explainers ask a language model for one sentence, and how its
reply is validated."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Template

from autointerp.explainers.explainer_interface import ExplainerTools, WrittenExplanation
from autointerp.explainers.prompt_windows import ShownWindows, shrink_windows
from autointerp.llm.requests_and_replies import (
    Asker,
    ChatMessage,
    ChatRequest,
    Reply,
    RequestFailure,
    is_too_long,
)
from autointerp.llm.shorter_retry import retry_shorter_if_too_long
from autointerp.scorers.prompt_templates import PromptTemplate
from autointerp.text_windows import TextWindow
from feature_store.errors import InputError

PROMPTS_FOLDER = Path(__file__).parent.with_name("prompts")
MAX_EXPLANATION_CHARS = 300
"""Maximum number of characters of an explanation; the prompts ask for no more than 200."""
REPLY_TOKENS = 200
EXPLANATION_SCHEMA = {
    "type": "object",
    "properties": {
        "explanation": {"type": "string", "minLength": 1, "maxLength": MAX_EXPLANATION_CHARS}
    },
    "required": ["explanation"],
    "additionalProperties": False,
}


@cache
def load_explain_prompt(name: str) -> PromptTemplate:
    """Return the prompt template `explain_<name>.md` of an explanation request, with dashes of the
    name as underscores."""
    file = f"explain_{name.replace('-', '_')}.md"
    text = (PROMPTS_FOLDER / file).read_text(encoding="utf-8")
    return PromptTemplate(Template(text), f"{file} {hashlib.sha256(text.encode()).hexdigest()[:8]}")


def require_asker(tools: ExplainerTools, explainer: str) -> Asker:
    """Return the asker, which sends explanation requests to a language model. Raises InputError
    where the explainer has none."""
    if tools.ask is None:
        raise InputError(f"The explainer {explainer!r} asks a language model: name one by --model.")
    return tools.ask


def make_explanation_request(
    name: str, tools: ExplainerTools, *, temperature: float = 0.0, draw: int = 0, **fields: object
) -> ChatRequest:
    """Return the request for an explanation in the form {"explanation": …}, by the explainer's
    prompt template and its fields."""
    return ChatRequest(
        (ChatMessage("user", load_explain_prompt(name).fill(**fields)),),
        schema=EXPLANATION_SCHEMA,
        purpose="explain",
        max_tokens=REPLY_TOKENS + tools.thinking,
        temperature=temperature,
        draw=draw,
    )


async def request_explanation(
    explainer: str,
    tools: ExplainerTools,
    shown: Sequence[TextWindow],
    render: Callable[[ShownWindows], Mapping[str, object]],
    *,
    temperature: float = 0.0,
    draw: int = 0,
    cut: bool = True,
) -> WrittenExplanation | RequestFailure:
    """Request one explanation from a language model by the explainer's prompt, written from the
    windows `shown`.

    `render` makes the prompt's fields from windows. Where the request does not fit into the
    server's context, it is sent with fewer windows, then with shorter ones unless `cut` is False;
    the explanation's `detail` says so.
    """
    ask = require_asker(tools, explainer)

    def put(version: ShownWindows) -> ChatRequest:
        """Return the explanation request whose prompt shows one version of the windows: all, fewer,
        or shorter ones."""
        fields = render(version)
        return make_explanation_request(
            explainer, tools, temperature=temperature, draw=draw, **fields
        )

    version, request, reply = await ask_with_fitting_windows(
        ask, list(shrink_windows(shown, cut=cut)), put
    )
    text = read_explanation(reply)
    if isinstance(text, RequestFailure):
        return text
    server = getattr(getattr(ask, "server", None), "base_url", "")  # stand-ins have no server
    call = (isinstance(reply, Reply) and reply.key) or request.to(server, ask.model).key
    keys = tuple(shown[i].key for i in version.places)
    detail = {}
    if len(version.windows) < len(shown) or version.width:
        detail = {"windows": len(version.windows), "of": len(shown), "width": version.width}
    return WrittenExplanation(
        text,
        explainer,
        ask.model,
        load_explain_prompt(explainer).version,
        keys,
        (call,),
        {"cut to the context": detail} if detail else {},
    )


async def ask_with_fitting_windows(
    ask: Asker, versions: Sequence[ShownWindows], put: Callable[[ShownWindows], ChatRequest]
) -> tuple[ShownWindows, ChatRequest, Reply | RequestFailure]:
    """Send the explanation request with the first version of the windows that fits into the
    server's context; return that version, the request and its reply."""
    *longer, shortest = versions
    for version in longer:
        request = put(version)
        if is_too_long(ask, request):
            continue
        with retry_shorter_if_too_long():
            reply = await ask.ask(request)
        if not (isinstance(reply, RequestFailure) and reply.kind == "context size"):
            return version, request, reply
    request = put(shortest)
    return shortest, request, await ask.ask(request)


def read_explanation(reply: Reply | RequestFailure) -> str | RequestFailure:
    """Return the text of the explanation in a language model's reply, on one line; a failure where
    the request failed or the explanation is too long, since none is cut off."""
    if isinstance(reply, RequestFailure):
        return reply
    text = " ".join(reply.parsed["explanation"].split())
    if len(text) > MAX_EXPLANATION_CHARS:
        problem = (
            f"The explanation has {len(text)} characters; at most {MAX_EXPLANATION_CHARS} "
            f"are taken."
        )
        return RequestFailure("unreadable", problem)
    return text
