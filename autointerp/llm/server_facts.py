"""What a server reports about itself before it is asked anything: software, models, context size
and number of slots.

Servers disagree on where these facts are. They are read from `GET /models` below the base URL
(vLLM's `max_model_len`, llama.cpp's `meta.n_ctx`, OpenRouter's `context_length`, and the names that
LM Studio and others use for the same), and for llama.cpp from `GET /props` next to the base URL,
without the API key. A fact that a server does not give, or gives in another form, is unknown.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

GetJson = Callable[[str, bool], Awaitable[Any]]
"""Type of a function (URL, whether to send the API key) → JSON at the URL, or None for any other
response."""
CONTEXT_FIELDS = (
    "max_model_len",
    "n_ctx",
    "loaded_context_length",
    "context_length",
    "context_window",
    "max_context_length",
    "max_input_tokens",
)
MAX_LISTED_MODELS = 5_000


class ListedModel(BaseModel):
    """Model that a server lists in `GET /models`; fields that are not declared here are kept
    unchanged."""

    model_config = ConfigDict(extra="allow")
    id: str = Field(max_length=500)
    owned_by: str = ""
    meta: Mapping[str, Any] | None = None


class ModelListing(BaseModel):
    """Response of a server to `GET /models`."""

    data: list[ListedModel] = Field(max_length=MAX_LISTED_MODELS)


@dataclass(frozen=True)
class ServerFacts:
    """Facts that a server reports about itself and one of its models."""

    answered: bool = False
    """Whether the server listed its models."""
    models: tuple[str, ...] = ()
    software: str = ""
    """The server software as the list of models names it: `llamacpp`, `vllm`, `library` (Ollama),
    and so on."""
    context_tokens: int | None = None
    """Context size for the prompt and reply of one question, in tokens."""
    slots: int | None = None
    """Number of questions that the server processes at once."""


async def read_server_facts(get: GetJson, base_url: str, model: str) -> ServerFacts:
    """Return the facts that a server reports about itself and one model; never raises for what it
    sends."""
    try:
        listing = ModelListing.model_validate(await get(f"{base_url}/models", True))
    except ValidationError:
        return ServerFacts()
    names = tuple(entry.id for entry in listing.data)
    mine = next((entry for entry in listing.data if entry.id == model), None)
    # a server of one model often answers under any name
    if mine is None and len(listing.data) == 1:
        mine = listing.data[0]
    software = mine.owned_by if mine else listing.data[0].owned_by if listing.data else ""
    context = listed_context_size(mine) if mine else None
    slots = None
    if software == "llamacpp":
        slots, props_context = await read_llamacpp_props(get, base_url)
        # /props gives the context of one slot, which is what a question can use
        context = props_context or context
    return ServerFacts(True, names, software, context, slots)


def listed_context_size(entry: ListedModel) -> int | None:
    """Return the context size that a server's list of models gives for a model, the smallest where
    there are several."""
    places: list[Mapping[str, Any]] = [entry.model_extra or {}, entry.meta or {}]
    top = entry.model_extra.get("top_provider") if entry.model_extra else None
    places += [top] if isinstance(top, Mapping) else []
    found = [plausible_count(place.get(name)) for place in places for name in CONTEXT_FIELDS]
    return min((size for size in found if size), default=None)


async def read_llamacpp_props(get: GetJson, base_url: str) -> tuple[int | None, int | None]:
    """Return the number of slots of a llama.cpp server, and the context size of each slot."""
    parts = urlsplit(base_url)
    path = parts.path.removesuffix("/v1")
    props = await get(urlunsplit((parts.scheme, parts.netloc, f"{path}/props", "", "")), False)
    if not isinstance(props, Mapping):
        return None, None
    defaults = props.get("default_generation_settings")
    n_ctx = defaults.get("n_ctx") if isinstance(defaults, Mapping) else None
    return plausible_count(props.get("total_slots")), plausible_count(n_ctx)


def plausible_count(value: object) -> int | None:
    """Return a positive integer of plausible size; None for anything else that a server sends."""
    return value if type(value) is int and 0 < value < 1_000_000_000 else None
