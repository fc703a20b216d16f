"""Two kept runs side by side: texts, guard rails, and what their requests differ in."""

from typing import Any

import streamlit as st

from app import components, session
from app.experiments.page import facts, plain_rows, spoken, title
from app.experiments.pair import differences, flat, parting, shown
from app.wording import count, plural
from feature_store.experiments import Experiment

ROWS = 200
"""Lines of a table of differences."""


def draw(a: Experiment, b: Experiment) -> None:
    """The page under the bar."""
    st.title("Compare runs", anchor=False)
    for side, run in zip("AB", (a, b), strict=True):
        href = session.href(session.EXPERIMENTS, {"experiment": run.id})
        name = f"[{session.literal(run.id)}]({href})"
        about = session.literal(f"{title(run)} · {facts(run)}")
        st.markdown(f"**{side}** {name} {about}" + (f" · {note(run)}" if run.note else ""))
    if a.kind == b.kind == "steer":
        texts(a, b)
    else:
        st.subheader("Results", anchor=False)
        if a.kind == b.kind:
            table("pair_numbers", numbers(a, b))
        else:
            st.caption(f"A is a run of {a.kind}, B of {b.kind}: their results have no common part.")
    st.subheader("Requests and weights", anchor=False)
    table("pair_requests", differences(asked(a), asked(b)))


def note(run: Experiment) -> str:
    """Of a run, as Markdown that says nothing but it."""
    return f"“{session.literal(run.note)}”"


def texts(a: Experiment, b: Experiment) -> None:
    """Row by row, A left and B right; tokens without a like in the other are underlined."""
    unit = "tokens" if a.model_hash == b.model_hash else "pieces"
    names = [name for name in a.result["rows"] if name in b.result["rows"]]
    for name in names:
        rows = [run.result["rows"][name] for run in (a, b)]
        found = parting(rows[0][unit], rows[1][unit])
        if found.identical:
            hint = f"the same {plural(found.n[0], 'token')}"
        else:
            alike = min(found.n) - min(map(len, found.changed))
            first = (
                f"alike up to token {count(found.same)}" if found.same else "no common beginning"
            )
            hint = (
                f"{first}; {plural(alike, 'token')} of {count(max(found.n))} in both, the others "
                "underlined"
            )
        columns = [
            spoken(run.result, name, found.changed[i], f"{'AB'[i]} {name}")
            for i, run in enumerate((a, b))
        ]
        components.texts(key=f"pair_{name}", data={"texts": columns, "hint": hint})


def numbers(a: Experiment, b: Experiment) -> list[tuple[str, str, str]]:
    """The results' single numbers beside each other, lists left out."""
    left, right = (
        {
            path: v
            for path, v in flat(run.result).items()
            if not any(map(str.isdigit, path.split(".")))
        }
        for run in (a, b)
    )
    return [
        (path, shown(left.get(path)), shown(right.get(path)))
        for path in dict.fromkeys([*left, *right])
    ]


def asked(run: Experiment) -> dict[str, Any]:
    """Everything that a result depends on."""
    return {
        **run.request,
        "model": run.model_hash[:12],
        "dictionaries": {name: weights[:12] for name, weights in run.dictionaries.items()},
        "versions": dict(run.versions),
    }


def table(key: str, rows: list[tuple[str, str, str]]) -> None:
    """Path, A, B."""
    if not rows:
        st.caption("No difference.")
        return
    cells = [list(row) for row in rows[:ROWS]]
    components.rows(key=key, data=plain_rows(("", "A", "B"), cells))
    if len(rows) > ROWS:
        st.caption(f"and {count(len(rows) - ROWS)} more")
