"""What a server says about itself: its software, models, context size and slots.

Servers disagree on where this stands. Read are `GET /models` below the base URL (vLLM's
`max_model_len`, llama.cpp's `meta.n_ctx`, OpenRouter's `context_length`, LM Studio's and others'
names for the same), and for llama.cpp `GET /props` beside the base URL, without the key, for its
slots. What a server does not say, or says in another form, is not known.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

GetJson = Callable[[str, bool], Awaitable[Any]]
"""(URL, whether the key goes along) → the JSON there, or None for any other answer."""
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
    """An entry of `GET /models`, of which other fields are kept as they are."""

    model_config = ConfigDict(extra="allow")
    id: str = Field(max_length=500)
    owned_by: str = ""
    meta: Mapping[str, Any] | None = None


class ModelListing(BaseModel):
    """What `GET /models` answers."""

    data: list[ListedModel] = Field(max_length=MAX_LISTED_MODELS)


@dataclass(frozen=True)
class ServerFacts:
    """What is known of a server before it is asked anything."""

    answered: bool = False
    """Whether it listed its models."""
    models: tuple[str, ...] = ()
    software: str = ""
    """As the list of models has it: `llamacpp`, `vllm`, `library` (Ollama), and so on."""
    context_tokens: int | None = None
    """Of the prompt and the reply together, for one question."""
    slots: int | None = None
    """How many questions it works on at once."""


async def read_server_facts(get: GetJson, base_url: str, model: str) -> ServerFacts:
    """Return what a server says of itself and of one model; raises nothing for what it says."""
    try:
        listing = ModelListing.model_validate(await get(f"{base_url}/models", True))
    except ValidationError:
        return ServerFacts()
    names = tuple(entry.id for entry in listing.data)
    mine = next((entry for entry in listing.data if entry.id == model), None)
    if mine is None and len(listing.data) == 1:
        mine = listing.data[0]
    software = mine.owned_by if mine else listing.data[0].owned_by if listing.data else ""
    context = listed_context_size(mine) if mine else None
    slots = None
    if software == "llamacpp":
        slots, props_context = await read_llamacpp_props(get, base_url)
        context = props_context or context
    return ServerFacts(True, names, software, context, slots)


def listed_context_size(entry: ListedModel) -> int | None:
    """Return the context size that a listed model is said to have, the smallest where several."""
    places: list[Mapping[str, Any]] = [entry.model_extra or {}, entry.meta or {}]
    top = entry.model_extra.get("top_provider") if entry.model_extra else None
    places += [top] if isinstance(top, Mapping) else []
    found = [plausible_count(place.get(name)) for place in places for name in CONTEXT_FIELDS]
    return min((size for size in found if size), default=None)


async def read_llamacpp_props(get: GetJson, base_url: str) -> tuple[int | None, int | None]:
    """Return the slots of a llama.cpp server and the context that each of them has."""
    parts = urlsplit(base_url)
    path = parts.path.removesuffix("/v1")
    said = await get(urlunsplit((parts.scheme, parts.netloc, f"{path}/props", "", "")), False)
    if not isinstance(said, Mapping):
        return None, None
    defaults = said.get("default_generation_settings")
    n_ctx = defaults.get("n_ctx") if isinstance(defaults, Mapping) else None
    return plausible_count(said.get("total_slots")), plausible_count(n_ctx)


def plausible_count(value: object) -> int | None:
    """Return a positive whole number of a plausible size; None for anything else."""
    return value if type(value) is int and 0 < value < 1_000_000_000 else None
