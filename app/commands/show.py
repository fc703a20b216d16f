"""`saefari show`: print one feature in the terminal."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from app.commands.terminal import console, print_json
from app.wording import count, measure, share, signed
from feature_store.harvest_reader import HarvestFile
from feature_store.records import Context, FeatureFacts, FeatureId, FeaturePayload
from feature_store.store import Store

BEFORE, AFTER = 12, 12
"""Number of tokens to print before and after a peak."""


def show(
    *, store: Path, feature: str, harvest_id: str | None, contexts: int, as_json: bool
) -> None:
    """Print a feature's facts, logits and contexts; see `saefari show --help`."""
    wanted = FeatureId.parse(feature)
    file = Store(store).find_harvest(wanted, harvest_id)
    payload = file.payload(wanted)
    if as_json:
        print_json(as_data(payload, file))
        return
    facts, out = payload.facts, console(soft_wrap=True)
    info = file.dictionary(wanted.dictionary)
    hooks = " + ".join(info.read_hooks)
    out.print(Text(f"{wanted}  {hooks}  harvest {file.record.id}", style="bold"))
    if not facts.n_active:
        out.print(f"Never active on {count(file.record.tokens)} tokens.")
    else:
        print_facts(facts, file, out)
    print_logits(facts, file, out)
    for stratum in ("top", "bottom", "range"):
        found = [c for c in payload.contexts if c.stratum == stratum][:contexts]
        if found:
            out.print(Text(f"\n{stratum}", style="bold"))
        for context in found:
            out.print(line(context, file, facts.max_act or 1.0))


def as_data(payload: FeaturePayload, file: HarvestFile) -> dict[str, Any]:
    """Return the feature as plain data, with every stored context."""
    facts, text = payload.facts, file.vocabulary.text
    promoted = [text(token) for token in facts.promoted_tokens or []]
    suppressed = [text(token) for token in facts.suppressed_tokens or []]
    data = {"harvest": file.record.id, "promoted": promoted, "suppressed": suppressed}
    return {**data, **asdict(payload)}


def print_facts(facts: FeatureFacts, file: HarvestFile, out: Console) -> None:
    """Print the feature's facts with their units."""
    out.print(
        f"density {share(facts.density)} ({count(facts.n_active)} of "
        f"{count(file.record.tokens)} tokens)  windows {share(facts.window_density)}  "
        f"max {measure(facts.max_act)}  mean when active {measure(facts.mean_act)}  "
        f"skew {measure(facts.skew, 2)}  kurtosis {measure(facts.kurtosis, 2)}"
    )
    if facts.top_token is not None and facts.top_token_share is not None:
        token = visible(file.vocabulary.text(facts.top_token))
        text = (
            f"on its most frequent token {token!r}: {share(facts.top_token_share)} of its "
            f"activation (n = {count(facts.top_token_n)} sampled tokens)"
        )
        out.print(Text(text))


def print_logits(facts: FeatureFacts, file: HarvestFile, out: Console) -> None:
    """Print the promoted and suppressed tokens, if the logit lens is defined."""
    for name in ("promoted", "suppressed"):
        tokens, values = getattr(facts, f"{name}_tokens"), getattr(facts, f"{name}_values")
        if tokens and values:
            pairs = zip(tokens, values, strict=True)
            shown = (f"{visible(file.vocabulary.text(t))} {signed(v)}" for t, v in pairs)
            out.print(Text(f"{name:<11}" + "   ".join(shown)))


def line(context: Context, file: HarvestFile, largest: float) -> Text:
    """Return one context as a line: the activation at its peak, then its coloured tokens."""
    begin, ids = file.tokens_around(context, BEFORE, AFTER)
    acts = dict(zip(context.positions, context.activations, strict=True))
    text = Text(f"{measure(context.value):>7}  {context.split:<7}  ")
    for position, piece in enumerate(file.vocabulary.display(ids), begin):
        text.append(visible(piece), style=heat(acts.get(position, 0.0), largest))
    return text


def heat(activation: float, largest: float) -> str:
    """Return the terminal style of an activation: bold if strong, blue if negative."""
    if not activation:
        return ""
    colour = "dark_orange" if activation > 0 else "dodger_blue1"
    strong = abs(activation) >= largest / 2
    return f"bold {colour} underline" if strong else colour


def visible(text: str) -> str:
    """Return a text on one line: line breaks as ↵, other control characters by number."""
    shown = text.replace("\n", "↵").replace("\t", "→")
    return "".join(c if c.isprintable() or c == " " else f"\\x{ord(c):02x}" for c in shown)
