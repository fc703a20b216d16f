"""All active features by their effect on the target, the strongest measured as well."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import streamlit as st

from app import annotations, export, session, theme
from app.ablate import chart
from app.ablate.inputs import add, meaning
from app.ablate.outcome import grid
from app.ablate.setting import key, opened, put
from app.session import Place
from app.tokens import visible
from app.wording import ABSENT, THIN, count, measure, plural, share, signed
from backend.ablation.model_parts import ModelPart
from feature_store.errors import InputError
from feature_store.feature_summaries import read_promoted_tokens
from feature_store.null_dictionaries import list_model_dictionaries
from feature_store.records import FeatureId

TABLE = "ablate_ranked"
METHODS = {"gradient": "gradient", "integrated": "integrated gradients"}
UNITS = {"feature": "at all tokens", "node": "at one token"}
MEASURED = 50
GOES = {
    "zero": "is set to zero",
    "mean": "takes its mean, a feature's over the harvest, an error's over these prompts",
    "resample": "takes its value on another of the prompts",
    "pair": "takes its value on the second prompt",
}
LABELLED = 120
"""Rows whose feature is told in words; a table of hundreds would read the store for seconds."""


def controls(place: Place) -> dict[str, Any]:
    """Which dictionaries, how estimated, how many measured."""
    names = list_model_dictionaries(place.file)
    first, version = opened("effects")
    asked = [name for name in first.get("dictionaries", names) if name in names]
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        on = st.multiselect("Dictionaries", names, asked, key=key(f"rank_on{version}"), width=400)
        method = st.segmented_control(
            "Estimate",
            list(METHODS),
            default=first.get("method", "gradient"),
            required=True,
            key=key(f"rank_method{version}"),
            format_func=METHODS.__getitem__,
            help="Gradient × activation: one backward pass. Integrated: ten, on the road along "
            "which the whole dictionary goes to what stands in its place.",
        )
        unit = st.segmented_control(
            "Taken away",
            list(UNITS),
            default=first.get("unit", "feature"),
            required=True,
            key=key(f"rank_unit{version}"),
            format_func=UNITS.__getitem__,
        )
        exact = st.number_input(
            "Measure",
            0,
            500,
            first.get("exact", MEASURED),
            10,
            key=key(f"rank_exact{version}"),
            width=110,
            help="How many of the strongest are taken away in runs of their own, to "
            "compare with the estimate.",
        )
    return {"on": on, "method": method, "unit": unit, "exact": exact}


def draw(place: Place, result: Mapping[str, Any]) -> None:
    """The table, and the scatter beside it."""
    if not result["rows"]:
        st.write("No feature of these dictionaries is active on the prompts.")
        return
    left, right = st.columns([13, 8], gap="medium")
    with left:
        st.caption(session.literal(summary(result)))
        rows = table(place, result)
        actions(place, rows)
    with right:
        agreement(result)
    cuts(result)


def summary(result: Mapping[str, Any]) -> str:
    """What the numbers are."""
    rows = len(result["rows"])
    kind = "features and error terms" if result["unit"] == "feature" else "nodes"
    shown = f"the first {count(rows)} of " if rows < result["of"] else ""
    goes = GOES[result.get("how", "zero")]
    told = "mean of " if result["n"] > 1 and result["unit"] == "feature" else ""
    return (
        f"{shown}{count(result['of'])} {kind}, {told}{plural(result['n'], 'prompt')}. Effect: how "
        f"the target ({measure(result['clean'])} nats) changes when one {goes}; below 0, it helped "
        "the answer."
    )


def table(place: Place, result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The ranked rows; gives those that are selected."""
    rows, words = result["rows"], told(place, result["rows"][:LABELLED])
    lines = [
        {
            "part": one["part"],
            "label": words.get(one["part"], ""),
            "at": where(one),
            "activation": one["activation"],
            "predicted": one["predicted"],
            "measured": one["measured"],
            "spread": one["spread"],
        }
        for one in rows
    ]
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    picked = st.dataframe(
        lines,
        key=TABLE,
        hide_index=True,
        row_height=28,
        height=372,
        on_select="rerun",
        selection_mode="multi-row",
        lazy=False,
        placeholder=ABSENT,
        column_config={
            "part": text("feature", width=104),
            "label": text(
                "label or tokens", width=120, help="a label, else the tokens that it promotes"
            ),
            "at": text("on", width=80, help="tokens on which it is active, or the one token"),
            "activation": number("max", format="%.2f", width=56, help="largest activation here"),
            "predicted": number("predicted", format="%+.3f", width=76, help="estimate, nats"),
            "measured": number("measured", format="%+.3f", width=76, help="by removing it, nats"),
            "spread": number(
                "spread",
                format="%.3f",
                width=60,
                help="(Σ|Δ|)² ÷ (V·ΣΔ²) over centred logit changes: the share of the vocabulary "
                "that moves; 1 when all tokens move alike",
            ),
        },
    )
    columns = {name: [line[name] for line in lines] for name in lines[0]}
    st.download_button(
        "Download CSV",
        partial(export.as_csv, pa.table(columns)),
        "effects.csv",
        type="tertiary",
        on_click="ignore",
    )
    return [rows[i] for i in picked["selection"]["rows"] if i < len(rows)]


def told(place: Place, rows: list[Mapping[str, Any]]) -> dict[str, str]:
    """Labels, else promoted tokens, of the first rows."""
    called, text = annotations.read().annotations.feature_names, place.file.vocabulary.text
    there = [r for r in rows if r["dictionary"] in place.file.dictionaries]
    pairs = list({(r["dictionary"], r["feature"]) for r in there if r["feature"] is not None})
    tokens = read_promoted_tokens(place.file, pairs, 3)
    return {
        f"{name}/{index}": called.short_name_of((name, index))
        or " ".join(visible(text(t)).strip() for t in tokens.get((name, index), []))
        for name, index in pairs
    }


def where(one: Mapping[str, Any]) -> str:
    """On how many tokens, or on which."""
    if one["position"] is None:
        return plural(one["tokens"], "token")
    return f"{one['prompt'] + 1}, position {one['position']}"


def actions(place: Place, rows: list[Mapping[str, Any]]) -> None:
    """What can be done with the selected ones."""
    if not rows:
        st.caption("Select rows to ablate them together, to steer one, or to open one.")
        return
    names = list(dict.fromkeys(row["part"] for row in rows))
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        st.button(
            f"Ablate {'it' if len(names) == 1 else f'these {len(names)}'}",
            on_click=take,
            args=(names,),
            type="primary",
        )
        st.button("Add to the parts", on_click=add, args=(names,), type="tertiary")
        if len(names) == 1 and (feature := ModelPart.parse(names[0]).feature):
            query = {**place.query, "feature": names[0]}
            st.page_link(session.FEATURE, label="Open", query_params=query)
            st.page_link(session.STEER, label="Steer", query_params=query)
            st.caption(session.literal(words(place, feature)))


def take(names: list[str]) -> None:
    """Callback: exactly these are the parts, on the first tab."""
    put(parts=names, tab="ablate")


def words(place: Place, feature: FeatureId) -> str:
    """A feature's label or tokens, as far as the harvest knows it."""
    try:
        return meaning(place, place.file.check_feature(feature))
    except InputError:
        return ""


def agreement(result: Mapping[str, Any]) -> None:
    """The scatter, and how well both agree."""
    points = [
        (row["part"], row["predicted"], row["measured"])
        for row in result["rows"]
        if row["measured"] is not None
    ]
    if not points:
        st.caption("None measured: choose how many to take away in runs of their own.")
        return
    st.plotly_chart(
        chart.scatter(points, theme.palette(st.context.theme.type)),
        theme=None,
        key="ablate_scatter",
        config={"displaylogo": False, "displayModeBar": False},
    )
    found = result["agreement"]
    signs = ABSENT if found["signs"] is None else share(found["signs"])
    st.caption(
        f"{plural(found['n'], 'strongest estimate')}: Spearman {measure(found['spearman'], 2)} · "
        f"Pearson {measure(found['pearson'], 2)} · slope {measure(found['slope'], 2)} · signs "
        f"agree {signs} (n {found['signs_n']}: above 1{THIN}% of the largest). They were "
        "chosen by the estimate."
    )


def cuts(result: Mapping[str, Any]) -> None:
    """What each dictionary leaves to its error term."""
    st.subheader("What dictionaries miss", anchor=False)
    heads = [
        ("dictionary", ""),
        ("nodes", "number"),
        ("error share", "number"),
        ("Σ estimates", "number"),
        ("all away, measured", "number"),
    ]
    rows = [
        [
            one["dictionary"],
            count(one["nodes"]),
            ABSENT if one["error_share"] is None else share(one["error_share"]),
            signed(one["estimated"], 3),
            ABSENT if one["moved"] is None else signed(one["moved"], 3),
        ]
        for one in result["cuts"]
    ]
    with st.container(width=640):
        grid("ablate_cuts", heads, rows)
    st.caption(
        "Error share: |effects of error terms| ÷ |all effects| at this dictionary. Dictionaries "
        "are cuts of one stream: their effects are never added. The last column is measured only "
        "by integrated gradients, which must add up to it."
    )
