"""One feature as one HTML file: no server, no script, nothing fetched; light and dark.

Every text goes through `safe`, and the file's own policy forbids scripts and requests besides.
"""

from dataclasses import fields
from html import escape as safe
from itertools import zip_longest
from pathlib import Path

from app import export, session, theme
from app.panels import contexts, facts, feature_heading, logits
from app.panels.panel_context import PanelContext
from app.tokens import ContextLine
from app.wording import ABSENT, measure, plural
from feature_store.explanations import Explanation
from feature_store.records import HarvestRecord

STYLE = Path(__file__).with_name("sheet.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def take_away(subject: PanelContext) -> None:
    """The feature as one HTML file, made when it is asked for, and as Python."""
    said = subject.catalog.annotations.values_of_feature(subject.id)
    export.menu(
        export.feature_lines(session.shown_store(), subject.place.file.record.id, subject.id),
        {"HTML": (file_name(subject), lambda: page(subject, said))},
    )


def file_name(subject: PanelContext) -> str:
    """DICTIONARY-INDEX.html."""
    return plain(f"{subject.id.dictionary}-{subject.id.index}") + ".html"


def plain(name: str) -> str:
    """A name with nothing in it that a file's may not have."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name).lstrip(".")


def page(subject: PanelContext, said: dict[str, str]) -> bytes:
    """The file, in UTF-8. `said` has what people said of the feature, by kind."""
    return document(str(subject.id), of_feature(subject, said))


def document(title: str, parts: list[str]) -> bytes:
    """A whole file, in UTF-8: `parts` are markup under its title."""
    shown = safe(title)
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{shown}</title><style>{colours()}{STYLE.read_text('utf-8')}</style></head><body>",
        f"<h1>{shown}</h1>",
        *parts,
        "</body></html>",
    ]
    return "\n".join(lines).encode("utf-8", errors="replace")


def of_feature(subject: PanelContext, said: dict[str, str], limit: int | None = None) -> list[str]:
    """All that stands under a feature's name; with `limit`, so many contexts of a stratum."""
    whole = subject.facts.n_active
    return [
        *(f'<p class="pre">{safe(said[kind])}</p>' for kind in ("label", "note") if kind in said),
        *(
            explained(one)
            for one in subject.catalog.annotations.explanations.of_feature(subject.id)
        ),
        f'<p class="muted">{safe(origin(subject))}</p>',
        *(
            f'<p class="amber">{safe(warning)}</p>'
            for warning in feature_heading.list_warnings(subject)
        ),
        *(body(subject, limit) if whole else dead(subject.place.file.record)),
    ]


def explained(one: Explanation) -> str:
    """A sentence about the feature, and who wrote it."""
    by = " · ".join(filter(None, dict.fromkeys([one.explainer, one.model, one.source])))
    return f'<p class="pre">{safe(one.text)} <small class="muted">{safe(by)}</small></p>'


def origin(subject: PanelContext) -> str:
    """What the numbers rest on."""
    record, info = subject.place.file.record, subject.place.info
    read = info.hook_text
    parts = [
        record.model,
        read,
        info.architecture,
        f"{plural(record.tokens, 'token')} of {record.corpus}",
    ]
    return " · ".join([*parts, f"harvest {record.id}"])


def body(subject: PanelContext, limit: int | None = None) -> list[str]:
    """Facts, logits, contexts."""
    return [*facts_of(subject), *logits_of(subject), *contexts_of(subject, limit)]


def dead(record: HarvestRecord) -> list[str]:
    """In place of the rest, for a feature that never fired."""
    return [f"<p>This feature never fired in {plural(record.tokens, 'token')}.</p>"]


def facts_of(subject: PanelContext) -> list[str]:
    """Names and values; what they are of on hover."""
    rows = [
        f'<div title="{safe(hint)}"><dt>{safe(name)}</dt><dd>{safe(value)}</dd></div>'
        for name, value, hint in facts.list_facts(subject)
    ]
    return ["<h2>Facts</h2>", "<dl>", *rows, "</dl>"]


def logits_of(subject: PanelContext) -> list[str]:
    """What it promotes and suppresses."""
    found = subject.facts
    if found.promoted_tokens is None or found.suppressed_tokens is None:
        return []
    up = logits.format_token_values(subject, found.promoted_tokens, found.promoted_values or [])
    down = logits.format_token_values(
        subject, found.suppressed_tokens, found.suppressed_values or []
    )
    rows = [
        "<tr>" + "".join(f'<td class="mono">{safe(text)}</td>' for text in (*one, *other)) + "</tr>"
        for one, other in zip_longest(up, down, fillvalue=("", ""))
    ]
    head = "<tr><th>promotes</th><th></th><th>suppresses</th><th></th></tr>"
    note = f'<p class="muted">{safe(logits.VALUE_HINT)}</p>'
    return [f"<h2>{safe(logits.TITLE)}</h2>", note, "<table>", head, *rows, "</table>"]


def contexts_of(subject: PanelContext, limit: int | None = None) -> list[str]:
    """Every stratum, the first open; with `limit` the first alone, and so many contexts of it."""
    parts = ["<h2>Contexts</h2>"]
    top = subject.facts.max_act or 1.0
    opened = " open"
    for sections in list(contexts.group_contexts(subject).values())[: None if limit is None else 1]:
        for section in sections:
            head = f"<summary>{safe(section.title)} <small>{safe(section.note)}</small></summary>"
            read = [
                contexts.make_context_line(subject, c, marked=section.marked)
                for c in section.contexts[:limit]
            ]
            lines = [line(found, top) for found in read]
            parts += [f"<details{opened}>", head, *lines, "</details>"]
            opened = ""
    return parts


def line(found: ContextLine, top: float) -> str:
    """One context: its activation, its tokens, where it is from."""
    acts = dict(found.acts)
    tokens = "".join(token(found, i, acts.get(i), top) for i in range(len(found.texts)))
    return (
        f'<div class="line"><span>{safe(measure(found.value))}</span>'
        f'<span class="text">{tokens}</span>'
        f'<span class="source">{safe(found.split)} · {safe(found.document)}</span></div>'
    )


def token(found: ContextLine, i: int, act: float | None, top: float) -> str:
    """A token with its heat; on hover its id, activation and position."""
    low, high = found.stored
    kinds = [
        "tok",
        *(["peak"] if i == found.peak and found.marked else []),
        *(["outside"] if not low <= i < high else []),
    ]
    style = ""
    if act:
        kinds.append("positive" if act > 0 else "negative")
        style = f' style="--heat:{min(1.0, abs(act) / top) ** 0.7:.3f}"'
    about = f"id {found.ids[i]}, position {found.position + i}"
    about += f", activation {measure(act) if act else ABSENT}"
    text = safe(found.texts[i]) + "</span>" + ("<br>" if i in found.breaks else "")
    return f'<span class="{" ".join(kinds)}"{style} title="{safe(about)}">{text}'


def colours() -> str:
    """The palettes of the pages, as CSS variables."""
    light, dark = (
        "".join(f"--{field.name}:{getattr(palette, field.name)};" for field in fields(palette))
        for palette in (theme.LIGHT, theme.DARK)
    )
    return f":root{{{light}}}@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"
