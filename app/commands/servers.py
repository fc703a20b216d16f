"""`saefari servers`: list the language-model servers and test the capabilities of one."""

import asyncio
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from app.commands.terminal import console, print_json
from app.wording import count, plural
from autointerp.llm.server_check import CALLS_PER_FEATURE, ServerCheck, check_server
from autointerp.llm.server_presets import SERVER_PRESETS
from autointerp.llm.server_settings import LlmServer, find_server, load_servers
from autointerp.llm.token_prices import find_price, load_prices
from feature_store.errors import InputError

YES, NO, UNKNOWN = "yes", "no", "not known"


def list_servers(*, as_json: bool) -> None:
    """Print the configured servers and the presets that need no configuration."""
    known = load_servers()
    rows = [(name, server, "configured", True) for name, server in sorted(known.items())]
    rows += [
        (name, preset.server, preset.title, preset.verified)
        for name, preset in SERVER_PRESETS.items()
        if name not in known
    ]
    if as_json:
        print_json([as_data(*row) for row in rows])
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("name", "what", "URL", "key", "schemas", "log probabilities", "tested"):
        table.add_column(title)
    for name, server, what, verified in rows:
        tried = "" if name in known else YES if verified else "unverified"
        table.add_row(
            escape(name),
            escape(what),
            escape(server.base_url),
            escape(key_state(server)),
            YES if server.structured else NO,
            YES if server.logprobs else NO,
            tried,
        )
    console().print(table)
    click.echo(
        "Use a server with --base-url NAME, or in servers.toml as preset = NAME with your own URL. "
        "Test it: saefari servers check NAME."
    )


def key_state(server: LlmServer) -> str:
    """Return the environment variable of the key and whether it is set, never the key itself."""
    if not server.key_env:
        return "none needed"
    return f"{server.key_env} ({'set' if server.key() else 'not set'})"


def as_data(name: str, server: LlmServer, what: str, verified: bool) -> dict[str, Any]:
    """Return a server as plain data, without its key."""
    return {
        "name": name,
        "what": what,
        "base_url": server.base_url,
        "key_env": server.key_env,
        "key_set": bool(server.key()),
        "structured": server.structured,
        "logprobs": server.logprobs,
        "text_limits": server.text_limits,
        "concurrency": server.concurrency,
        "context_tokens": server.context_tokens or None,
        "free": server.free,
        "verified": verified,
    }


def check(name: str, *, model: str, as_json: bool) -> None:
    """Test a server with two questions and print its capabilities. Raises InputError if it does
    not answer."""
    server = find_server(name, load_servers())
    model = model or (server.models[0] if len(server.models) == 1 else "")
    found = asyncio.run(check_server(server, model, find_price(model, server, load_prices())))
    if found.problem:
        raise InputError(found.problem)
    if as_json:
        print_json(found.to_json())
        return
    for label, said in lines(found):
        click.echo(f"{label:<18} {said}")


def lines(found: ServerCheck) -> list[tuple[str, str]]:
    """Return the findings of a server check as (label, text)."""
    facts = found.facts
    context = f"{count(facts.context_tokens)} tokens" if facts.context_tokens else UNKNOWN
    candidates = plural(found.candidates, "candidate") if found.candidates else ""
    rows = [
        ("server", f"{found.server} at {found.base_url} ({facts.software or 'reports no name'})"),
        ("model", found.model),
        ("context", f"{context} for a question and its reply"),
        ("calls at once", count(facts.slots) if facts.slots else f"{UNKNOWN}: the job finds out"),
        ("JSON schemas", schema_line(found)),
        (
            "lengths of texts",
            "enforced" if found.text_limits else "not enforced: Saefari checks replies",
        ),
        (
            "log probabilities",
            f"yes, {candidates} a token"
            if candidates
            else "none: answers are yes or no, and there is no AUC",
        ),
        (
            "seeds",
            "the same seed gives the same reply"
            if found.seeds
            else "the same seed gave another reply",
        ),
        ("counts tokens", YES if found.counts_tokens else "no: costs are unknown"),
    ]
    rows += [("note", note) for note in found.notes]
    return rows + [("100 features", cost_line(found, kind)) for kind in CALLS_PER_FEATURE]


def schema_line(found: ServerCheck) -> str:
    """Return whether the server enforces JSON schemas, and how its answer was read."""
    if found.schema:
        return "enforced"
    how = {
        "json": "but this answer was JSON",
        "prose": "but JSON within other text was read",
        "line": "but a labelled line was read",
    }.get(found.read_as, f"and the answer could not be used: {found.read_as}")
    return f"ignored, {how}; jobs show the format by an example"


def cost_line(found: ServerCheck, kind: str) -> str:
    """Return the time and cost of a job over 100 features."""
    hours, cost = found.hours_of_100(kind), found.cost_of_100.get(kind)
    calls = count(100 * CALLS_PER_FEATURE[kind])
    time = UNKNOWN if hours is None else f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
    money = "cost not known" if cost is None else f"${cost:,.2f}"
    return f"{kind}: about {time}, {money} (at most {calls} calls)"
