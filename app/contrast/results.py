"""What a comparison found: the ranked table, one feature's texts, features beside neurons."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from app import annotations, components, export, session, theme
from app.contrast import chart
from app.contrast.running import ContrastQuestion
from app.session import Place
from app.tokens import promotes
from app.wording import ABSENT, count, measure, plural
from backend.contrast.contrast_texts import READING_UNITS
from backend.contrast.text_set_contrast import (
    MAX_FALSE_DISCOVERY_RATE,
    MIN_DOCUMENTS_PER_SIDE,
    MIN_FIRING_DOCUMENTS,
    TextSetContrast,
)
from feature_store.number_format import format_fixed

SHOWN = 200
"""Rows of the table; a download has all."""
STRONGEST, LISTED = 3, 70
"""Texts of a side listed beside a feature, and their characters."""
TABLE, PICKED = "contrast_table", "contrast_picked"


def draw(place: Place, asked: ContrastQuestion, found: TextSetContrast) -> None:
    """Everything below the fields."""
    summary(found)
    if not found.table.num_rows:
        st.write("No feature of these dictionaries fires on any of the texts.")
        return
    left, right = st.columns([13, 7], gap="medium")
    with left:
        downloads(found)
        row = table(place, found, many=len(asked.dictionaries) > 1)
    with right:
        detail(place, asked, found, found.table.slice(row, 1).to_pylist()[0])
    separations(found)


def sides(found: TextSetContrast) -> tuple[str, str]:
    """What the two sides are called."""
    first, *others = [name or "(no label)" for name in found.names]
    return first, others[0] if len(others) == 1 else "the others"


def summary(found: TextSetContrast) -> None:
    """How much was compared, how it was tested, what to keep in mind."""
    (n_a, n_b), (a, b) = found.sizes, sides(found)
    said = [
        f"{count(n_a)} {a} and {count(n_b)} {b}: {plural(found.table.num_rows, 'feature')} fire"
    ]
    if found.tested:
        least = f"those that fire on {MIN_FIRING_DOCUMENTS} texts or more"
        said[0] += (
            f", {count(found.tested)} are tested ({least}), "
            f"{count(found.found())} differ at q ≤ {MAX_FALSE_DISCOVERY_RATE} (Benjamini–Hochberg)"
        )
        said.append(method(found))
    if found.repeats:
        said.append(f"{plural(found.repeats, 'text')} that stood twice on a side left out")
    if found.cut:
        said.append(f"{plural(found.cut, 'text')} longer than the model reads, cut")
    st.caption(session.literal(". ".join(said) + "."))
    if min(n_a, n_b) < MIN_DOCUMENTS_PER_SIDE:
        st.markdown(
            f":yellow[Fewer than {MIN_DOCUMENTS_PER_SIDE} texts on a side: ranked by effect, "
            f"without p-values.]"
        )
    elif not found.tested:
        st.markdown(
            f":yellow[No feature fires on {MIN_FIRING_DOCUMENTS} texts, so none is tested.]"
        )


def method(found: TextSetContrast) -> str:
    """How the p-values were had."""
    if found.exact:
        return "Permutation test over texts, every relabelling counted"
    drawn = found.table["relabellings"].drop_null().to_numpy()
    ends = dict.fromkeys((count(int(drawn.min())), count(int(drawn.max()))))
    return f"Permutation test over texts, {' to '.join(ends)} random relabellings a feature"


def downloads(found: TextSetContrast) -> None:
    """The whole table as a file."""
    kinds = {"CSV": export.as_csv, "Parquet": export.as_parquet}
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        shown = min(SHOWN, found.table.num_rows)
        whole = plural(found.table.num_rows, "feature")
        first = "" if shown == found.table.num_rows else f"The first {count(shown)} of "
        st.caption(f"{first}{whole}", width="stretch")
        for kind, write in kinds.items():
            st.download_button(
                f"Download {kind}",
                partial(write, found.table),
                f"contrast.{kind.lower()}",
                type="tertiary",
                on_click="ignore",
            )


def table(place: Place, found: TextSetContrast, *, many: bool) -> int:
    """The ranked features; gives the row that is looked at."""
    rows = found.table.slice(0, SHOWN).to_pylist()
    features = [(row["dictionary"], row["feature"]) for row in rows]
    called, tokens = annotations.read().annotations.feature_names, promotes(place.file, features)
    (n_a, n_b), (a, b) = found.sizes, sides(found)
    lines = [
        {
            "dictionary": row["dictionary"],
            "feature": row["feature"],
            "label": called.name_of(one) or tokens.get(one, ""),
            "a": f"{row['fires_a']} of {n_a}",
            "b": f"{row['fires_b']} of {n_b}",
            "q": row["q"],
            "auc": row["auc"],
            "share": interval(row["share_difference"], row["share_low"], row["share_high"]),
            "g": row["hedges_g"],
            "js": row["js"],
            "p": row["p"],
        }
        for one, row in zip(features, rows, strict=True)
    ]
    picked = st.dataframe(
        lines,
        key=TABLE,
        hide_index=True,
        row_height=28,
        height=min(39 + 28 * len(lines), 420),
        on_select="rerun",
        selection_mode="single-cell",
        column_config=columns(a, b),
        column_order=[name for name in lines[0] if many or name != "dictionary"],
        placeholder=ABSENT,
    )
    cells = picked["selection"]["cells"]
    return cells[0][0] if cells and cells[0][0] < len(lines) else 0


def columns(a: str, b: str) -> dict[str, Any]:
    """Headings, formats and what each number is."""
    return {
        "dictionary": st.column_config.TextColumn("dictionary", width=72),
        "feature": number("feature", "%d", 54, None),
        "label": text("label or tokens", 112, "a label, else the tokens that it promotes"),
        "a": text(a[:12], 58, f"texts of {a} on which it fires"),
        "b": text(b[:12], 58, f"texts of {b} on which it fires"),
        "q": number("q", "%.1e", 56, "Benjamini–Hochberg over all tested features"),
        "auc": number(
            "AUC",
            "%.2f",
            48,
            f"probability that a text of {a} has the larger activation than one "
            f"of {b}, ties half; Cliff's δ = 2 AUC − 1",
        ),
        "share": text(
            "Δ share", 126, f"firing share of {a} less that of {b}, with Newcombe's 95 % interval"
        ),
        "g": number(
            "g",
            "%.2f",
            50,
            "difference of the mean strongest activations in pooled standard "
            "deviations (Hedges' g)",
        ),
        "js": number(
            "JS",
            "%.2f",
            46,
            "Jensen–Shannon distance of its activations on the groups, 0 to 1: "
            "square root of bits; silence is a bin, 8 bins of equal count for the rest",
        ),
        "p": number("p", "%.1e", 56, "two-sided permutation test over texts"),
    }


def number(name: str, form: str, width: int, hint: str | None) -> Any:
    """A column of numbers."""
    return st.column_config.NumberColumn(name, format=form, width=width, help=hint)


def text(name: str, width: int, hint: str) -> Any:
    """A column of texts."""
    return st.column_config.TextColumn(name, width=width, help=hint)


def interval(value: float, low: float, high: float) -> str:
    """`+0.65 [+0.47, +0.78]`."""
    middle, *ends = (format_fixed(one, signed=True) for one in (value, low, high))
    return f"{middle} [{', '.join(ends)}]".replace("-", "−")


def detail(
    place: Place, asked: ContrastQuestion, found: TextSetContrast, row: dict[str, Any]
) -> None:
    """One feature on both sides' texts."""
    there = Place(place.file, place.file.dictionary(row["dictionary"]))
    name = f"{row['dictionary']} / {row['feature']}"
    values = found.values[row["dictionary"]].of(row["feature"])
    texts = np.array([document.text for document in found.documents], dtype=object)
    masks = dict(zip(sides(found), (found.on_a, ~found.on_a), strict=True))
    strongest = texts[np.abs(values).argmax()]
    query = {**there.at(row["feature"]), "test": strongest}
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        st.markdown(f"**{session.literal(name)}**", width="stretch")
        st.page_link(session.FEATURE, label="Open", query_params=query)
        if steer := getattr(session, "STEER", None):
            st.page_link(steer, label="Steer", query_params=there.at(row["feature"]))
    points = [(side, values[mask], list(texts[mask])) for side, mask in masks.items()]
    where = READING_UNITS[asked.unit]
    st.plotly_chart(
        chart.strip(points, where, theme.palette(st.context.theme.type)),
        theme=None,
        key="contrast_strip",
        config={"displaylogo": False, "displayModeBar": False},
    )
    listing(there, row["feature"], points)
    follow(there, row["feature"])


def listing(
    there: Place, feature: int, points: Sequence[tuple[str, np.ndarray, list[str]]]
) -> None:
    """The texts on which it is strongest, side by side; a click tries the feature on one."""
    lines = []
    for side, values, texts in points:
        for i in np.argsort(-np.abs(values), kind="stable")[:STRONGEST]:
            query = {**there.at(feature), "test": texts[i]}
            lines.append(
                {
                    "href": session.href(session.FEATURE, query),
                    "target": texts[i],
                    "cells": [measure(float(values[i])), side, cut(texts[i])],
                    "notes": [],
                }
            )
    heads = [
        ("activation", "", "opens the feature on this text"),
        ("side", "", ""),
        ("text", "", ""),
    ]
    components.rows(
        key=PICKED,
        data={
            "ruled": False,
            "columns": [dict(zip(("name", "kind", "hint"), head, strict=True)) for head in heads],
            "rows": lines,
        },
        on_go_change=components.ignore,
    )


def cut(text: str) -> str:
    """The beginning of a text on one line."""
    plain = " ".join(text.split())
    return plain if len(plain) <= LISTED else f"{plain[: LISTED - 1]}…"


def follow(there: Place, feature: int) -> None:
    """Where a text was clicked, go to the feature with that text under test."""
    if target := (st.session_state.get(PICKED) or {}).get("go"):
        query = {**there.at(feature), "test": target}
        st.switch_page(session.FEATURE, query_params=query)


def separations(found: TextSetContrast) -> None:
    """Whether features set the groups apart better than the hook's own coordinates do."""
    st.subheader("Features beside neurons", anchor=False)
    st.caption(
        "Jensen–Shannon distance between the groups (0 alike, 1 never in one bin), and in brackets "
        "what shuffled labels give: more units find more by chance."
    )
    heads = [
        ("", ""),
        ("read at", "code"),
        ("units", "number"),
        ("best unit", "number"),
        ("mean of ten best", "number"),
    ]
    lines = [
        [
            row["name"] if row["kind"] == "features" else "neurons",
            row["hook"],
            count(row["units"]),
            f"{measure(row['best'], 2)} ({measure(row['best_shuffled'], 2)})",
            f"{measure(row['top'], 2)} ({measure(row['top_shuffled'], 2)})",
        ]
        for row in found.separation.to_pylist()
    ]
    hint = {"units": "features that fire on any text; for neurons, the hook's own coordinates"}
    data = {
        "ruled": False,
        "columns": [{"name": n, "kind": k, "hint": hint.get(n, "")} for n, k in heads],
        "rows": [{"href": "", "target": None, "cells": line, "notes": []} for line in lines],
    }
    with st.container(width=720):
        components.rows(key="contrast_separation", data=data, on_go_change=components.ignore)
