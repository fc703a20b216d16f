"""One feature as one HTML file: no server, no script, nothing fetched; light and dark.

Every text goes through `safe`, and the file's own policy forbids scripts and requests besides.
"""

from dataclasses import fields
from html import escape as safe
from itertools import zip_longest
from pathlib import Path

from app import export, session, theme
from app.panels import contexts, facts, heading, logits
from app.panels.subject import Subject
from app.tokens import Line
from app.wording import ABSENT, measure, plural
from feature_store.records import Harvest

STYLE = Path(__file__).with_name("sheet.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def take_away(subject: Subject) -> None:
    """The feature as one HTML file, made when it is asked for, and as Python."""
    said = subject.said.annotations.of(subject.id)
    export.menu(
        export.feature_lines(session.store().path, subject.place.file.record.id, subject.id),
        (file_name(subject), lambda: page(subject, said)),
    )


def file_name(subject: Subject) -> str:
    """DICTIONARY-INDEX.html, with nothing in it that a file's name may not have."""
    name = f"{subject.id.dictionary}-{subject.id.index}"
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name).lstrip(".") + ".html"


def page(subject: Subject, said: dict[str, str]) -> bytes:
    """The file, in UTF-8. `said` has what people said of the feature, by kind."""
    title = safe(str(subject.id))
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{title}</title><style>{colours()}{STYLE.read_text('utf-8')}</style></head><body>",
        f"<h1>{title}</h1>",
        *(f'<p class="pre">{safe(said[kind])}</p>' for kind in ("label", "note") if kind in said),
        f'<p class="muted">{safe(origin(subject))}</p>',
        *(f'<p class="amber">{safe(warning)}</p>' for warning in heading.warnings(subject)),
        *(body(subject) if subject.facts.n_active else dead(subject.place.file.record)),
        "</body></html>",
    ]
    return "\n".join(parts).encode("utf-8", errors="replace")


def origin(subject: Subject) -> str:
    """What the numbers rest on."""
    record, info = subject.place.file.record, subject.place.info
    read = (
        info.hook_name if info.hook_name == info.hook_out else f"{info.hook_name} → {info.hook_out}"
    )
    parts = [
        record.model,
        read,
        info.architecture,
        f"{plural(record.tokens, 'token')} of {record.corpus}",
    ]
    return " · ".join([*parts, f"harvest {record.id}"])


def body(subject: Subject) -> list[str]:
    """Facts, logits, contexts."""
    return [*facts_of(subject), *logits_of(subject), *contexts_of(subject)]


def dead(record: Harvest) -> list[str]:
    """In place of the rest, for a feature that never fired."""
    return [f"<p>This feature never fired in {plural(record.tokens, 'token')}.</p>"]


def facts_of(subject: Subject) -> list[str]:
    """Names and values; what they are of on hover."""
    rows = [
        f'<div title="{safe(hint)}"><dt>{safe(name)}</dt><dd>{safe(value)}</dd></div>'
        for name, value, hint in facts.facts(subject)
    ]
    return ["<h2>Facts</h2>", "<dl>", *rows, "</dl>"]


def logits_of(subject: Subject) -> list[str]:
    """What it promotes and suppresses."""
    found = subject.facts
    if found.promoted_tokens is None or found.suppressed_tokens is None:
        return []
    up = logits.pairs(subject, found.promoted_tokens, found.promoted_values or [])
    down = logits.pairs(subject, found.suppressed_tokens, found.suppressed_values or [])
    rows = [
        "<tr>" + "".join(f'<td class="mono">{safe(text)}</td>' for text in (*one, *other)) + "</tr>"
        for one, other in zip_longest(up, down, fillvalue=("", ""))
    ]
    head = "<tr><th>promotes</th><th></th><th>suppresses</th><th></th></tr>"
    note = f'<p class="muted">{safe(logits.HINT)}</p>'
    return [f"<h2>{safe(logits.TITLE)}</h2>", note, "<table>", head, *rows, "</table>"]


def contexts_of(subject: Subject) -> list[str]:
    """Every stratum; the first is open."""
    parts = ["<h2>Contexts</h2>"]
    top = subject.facts.max_act or 1.0
    opened = " open"
    for sections in contexts.groups(subject).values():
        for section in sections:
            head = f"<summary>{safe(section.title)} <small>{safe(section.note)}</small></summary>"
            read = [contexts.read(subject, c, marked=section.marked) for c in section.contexts]
            lines = [line(found, top) for found in read]
            parts += [f"<details{opened}>", head, *lines, "</details>"]
            opened = ""
    return parts


def line(found: Line, top: float) -> str:
    """One context: its activation, its tokens, where it is from."""
    acts = dict(found.acts)
    tokens = "".join(token(found, i, acts.get(i), top) for i in range(len(found.texts)))
    return (
        f'<div class="line"><span>{safe(measure(found.value))}</span>'
        f'<span class="text">{tokens}</span>'
        f'<span class="source">{safe(found.split)} · {safe(found.document)}</span></div>'
    )


def token(found: Line, i: int, act: float | None, top: float) -> str:
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
