"""Settings of the language-model servers that may be asked, read from the user's servers.toml, and
which API key belongs to which server. The file has one table per server; a key is named by its
environment variable and never written down:

    [servers.lab]
    base_url = "http://gpu7:8000/v1"
    key_env = "LAB_KEY"          # leave it out where no key is needed
    models = ["llama-3.1-8b"]
    structured = true            # JSON schemas
    logprobs = true
    concurrency = 32
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field

from feature_store.errors import InputError, suggest_near_miss
from feature_store.record_validation import Count, Flag, ForeignRecord, Name, Real, WholeNumber

OPENAI_URL = "https://api.openai.com/v1"
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
API_KEY_PATTERN = re.compile(r"(?:sk|hf|gsk|xai|pk|key)[_-]?(?=\w*\d)(?=\w*[a-z])\w{16,}")
"""The form of the API keys of common services."""
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_CONCURRENCY, MAX_TIMEOUT_S = 1024, 86_400.0
"""Largest settings that servers.toml may have: calls in flight, and seconds for one attempt."""


class ServerSettings(ForeignRecord):
    """Types and ranges of the settings of one server in servers.toml."""

    base_url: Name
    models: list[Name] = []
    structured: Flag = True
    logprobs: Flag = True
    text_limits: Flag = True
    concurrency: Annotated[Count, Field(le=MAX_CONCURRENCY)] = 1
    timeout_s: Annotated[Real, Field(gt=0, le=MAX_TIMEOUT_S)] = 120.0
    free: Flag = False
    thinking: WholeNumber = 0
    penalty: Annotated[Real, Field(ge=0, le=2)] = 0.5
    context_tokens: WholeNumber = 0


@dataclass(frozen=True)
class LlmServer:
    """Settings of an OpenAI-compatible language-model server. A feature that the server turns out
    to refuse is no longer used."""

    name: str
    base_url: str
    key_env: str = ""
    """Environment variable with the server's API key; empty for a server that needs none."""
    models: tuple[str, ...] = ()
    """Models that pages offer for this server; others may be named."""
    structured: bool = True
    logprobs: bool = True
    concurrency: int = 16
    """Maximum number of concurrent calls; fewer are made while the server answers 429."""
    timeout_s: float = 120.0
    """Time-out of one attempt, in seconds."""
    context_tokens: int = 0
    """Context size for a question and its reply together, in tokens; 0 to ask the server for it."""
    text_limits: bool = True
    """Whether JSON schemas are sent with the lengths of texts, which OpenAI refuses."""
    free: bool = False
    """Whether tokens cost nothing; without a price for the model this also holds on this
    machine."""
    thinking: int = 0
    """Tokens that the server's models may use for reasoning, in addition to those of the answer."""
    penalty: float = 0.5
    """The frequency_penalty with which a question is asked again after a reply that repeats
    itself."""

    def key(self) -> str:
        """Return the server's API key; empty where none is needed or its environment variable is
        not set."""
        return os.environ.get(self.key_env, "").strip() if self.key_env else ""

    @property
    def loopback(self) -> bool:
        """Whether the server runs on this machine."""
        return is_loopback_host(urlsplit(self.base_url).hostname or "")


def load_servers() -> dict[str, LlmServer]:
    """Return all configured servers by name: those of the user's servers.toml, and `openai` while
    OPENAI_API_KEY is set.

    The key in OPENAI_API_KEY is sent to OPENAI_BASE_URL, or without that to OpenAI, and nowhere
    else. Raises InputError for a file that cannot be read.
    """
    found: dict[str, LlmServer] = {}
    if os.environ.get("OPENAI_API_KEY", "").strip():
        url = normalize_base_url(os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI_URL)
        found["openai"] = LlmServer("openai", url, "OPENAI_API_KEY")
    path = servers_file_path()
    if path.exists():
        found |= {server.name: server for server in read_servers_file(path)}
    elif "SAEFARI_SERVERS" in os.environ:
        raise InputError(f"SAEFARI_SERVERS names {path}, and there is no such file.")
    return found


def find_server(base_url: str, known: Mapping[str, LlmServer]) -> LlmServer:
    """Return the configured server with this base URL, or one without an API key. Raises InputError
    for a malformed URL.

    The key is sent only where the URL equals the configured one exactly, whatever host it names.
    The name of a configured server or of a preset stands for its URL.
    """
    from autointerp.llm.server_presets import SERVER_PRESETS

    if base_url in known:
        return known[base_url]
    if base_url in SERVER_PRESETS:
        return SERVER_PRESETS[base_url].server
    url = normalize_base_url(base_url)
    for server in known.values():
        if server.base_url == url:
            return server
    return LlmServer(urlsplit(url).netloc, url)


def servers_file_path() -> Path:
    """Return the path of the user's servers.toml: SAEFARI_SERVERS, otherwise in the user's settings
    folder."""
    return Path(
        os.environ.get("SAEFARI_SERVERS") or user_settings_folder() / "servers.toml"
    ).expanduser()


def user_settings_folder() -> Path:
    """Return the folder for this user's settings files, such as servers.toml and prices.toml."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "saefari"


def read_servers_file(path: Path) -> list[LlmServer]:
    """Return the servers of a servers.toml file. Raises InputError that names the file and the
    problem."""
    content = read_toml_file(path)
    tables = content.get("servers")
    if not isinstance(tables, dict):
        raise InputError(f"{path} has no [servers.NAME] tables.")
    return [parse_server_table(name, entry, path) for name, entry in tables.items()]


def parse_server_table(name: str, entry: object, path: Path) -> LlmServer:
    """Return the server that one table of servers.toml describes, on top of the settings of its
    preset if it names one."""
    where = f"[servers.{name}] in {path}"
    if isinstance(entry, dict) and "preset" in entry:
        entry = fill_in_preset(entry, where)
    if not isinstance(entry, dict) or not isinstance(entry.get("base_url"), str):
        raise InputError(f'{where} needs base_url = "http…", or preset = "…".')
    names = [field.name for field in fields(LlmServer) if field.name != "name"]
    for setting, value in entry.items():
        if setting not in names:
            hint = suggest_near_miss(setting, names)
            raise InputError(f"{where} has an unknown setting {setting!r}.{hint}")
        if setting == "key_env" and not isinstance(value, str):
            raise InputError(f"{where}: key_env must be the name of an environment variable.")
    ServerSettings.read(entry, where)
    # a key pasted here by mistake must not be printed
    if not is_variable_name(entry.get("key_env", "")):
        raise InputError(
            f"{where}: key_env must be the name of an environment variable that holds the key, "
            "such as LAB_KEY. The present value is not shown, since it may be the key itself."
        )
    given: dict[str, Any] = entry | {"base_url": normalize_base_url(entry["base_url"])}
    given["models"] = tuple(entry.get("models", []))
    return LlmServer(name, **given)


def is_variable_name(name: str) -> bool:
    """Return whether the setting `key_env` can be the name of an environment variable and does not
    look like an API key."""
    return not name or (
        VARIABLE_NAME.fullmatch(name) is not None and not API_KEY_PATTERN.match(name)
    )


def fill_in_preset(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the settings of a table in servers.toml, with those of its preset that the table does
    not set."""
    from autointerp.llm.server_presets import SERVER_PRESETS

    named = entry["preset"]
    if not isinstance(named, str) or named not in SERVER_PRESETS:
        hint = suggest_near_miss(str(named), list(SERVER_PRESETS))
        raise InputError(
            f"{where}: there is no preset {named!r}.{hint} {', '.join(SERVER_PRESETS)}."
        )
    preset = SERVER_PRESETS[named].server
    known = {field.name: getattr(preset, field.name) for field in fields(LlmServer)}
    known = {
        setting: value for setting, value in known.items() if setting not in ("name", "models")
    }
    return known | {setting: value for setting, value in entry.items() if setting != "preset"}


def read_toml_file(path: Path) -> dict[str, object]:
    """Return the content of a TOML file of settings. Raises InputError where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as bad:
        raise InputError(f"{path} cannot be read as TOML: {bad}.") from bad


def normalize_base_url(base_url: str) -> str:
    """Return a server's base URL in the one form in which URLs are compared. Raises InputError
    where it is no base URL."""
    try:
        parts = urlsplit(base_url.strip())
        host, port = parts.hostname, parts.port
    except ValueError as bad:
        raise InputError(f"{base_url!r} is no base URL: {bad}.") from bad
    if parts.username or parts.password:
        raise InputError(
            "A base URL must not contain a user name or password: it would be recorded. Put the "
            "key into an environment variable, and name that variable as key_env in servers.toml."
        )
    if parts.scheme not in DEFAULT_PORTS or not host or parts.query or parts.fragment:
        raise InputError(
            f"{base_url!r} is no base URL. One looks like http://localhost:8000/v1 or {OPENAI_URL}."
        )
    host = f"[{host}]" if ":" in host else host
    where = host if port in (None, DEFAULT_PORTS[parts.scheme]) else f"{host}:{port}"
    return urlunsplit((parts.scheme, where, parts.path.rstrip("/"), "", ""))


def is_loopback_host(host: str) -> bool:
    """Return whether the host name in a server's base URL is this machine itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
