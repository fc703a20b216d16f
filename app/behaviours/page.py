"""Clusters of predictions: what each predicts, the features behind it, and where it happens."""

import math
from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import annotations, collecting, components, session
from app.ablate.ranked import told
from app.session import Place
from app.tokens import REACH, line, visible
from app.wording import ABSENT, count, measure, plural, share, signed
from feature_store.errors import InputError
from feature_store.experiments import Experiment, Experiments
from feature_store.harvest_reader import HarvestFile
from feature_store.number_format import format_fixed
from feature_store.records import Context, FeatureId

LISTED, CHOSEN = 20, "cluster"
"""Kept runs offered; the URL's parameter of the open cluster."""
TALL, SHORT = 280, 8
"""Pixels of the table of clusters, and rows for which it needs no scrolling."""
TABLE, CONTEXTS = "behaviours_table", "behaviours_contexts"
HEADS = [
    ("cluster", "number"),
    ("tokens", "number"),
    ("predicts", "code"),
    ("its features away, nats", "number"),
    ("another's away", "number"),
    ("held out", "number"),
    ("features", ""),
]


def found(place: Place) -> Experiment | None:
    """The run that the URL names, else the newest of this harvest; a picker between them."""
    store = Experiments(session.store().catalog)
    runs = [run for run in store.list_summaries() if run.kind == "clusters"]
    mine = [run.id for run in runs if run.harvest == place.file.record.id][:LISTED]
    wanted = st.query_params.get("experiment")
    if wanted is None and not mine:
        return None
    one = store.open(wanted or mine[0])
    if one.kind != "clusters":
        raise InputError(f"The experiment {one.id} holds no clusters but a run of {one.kind}.")
    return one


def draw(place: Place, one: Experiment) -> None:
    """The table of clusters, and the one that is open."""
    result, file = one.result, place.file
    if one.harvest != file.record.id:
        query = {"harvest": one.harvest, "experiment": one.id}
        st.markdown(":yellow[These clusters are of another harvest.]")
        st.page_link(session.BEHAVIOURS, label="Open it there", query_params=query)
        return
    st.caption(session.literal(summary(one)))
    clicked = table(place, one)
    number = clicked or st.query_params.get(CHOSEN, "0")
    if clicked:
        st.query_params[CHOSEN] = clicked
    chosen = next((c for c in result["clusters"] if str(c["number"]) == number), None)
    if chosen is not None:
        cluster(place, file, chosen)


def summary(one: Experiment) -> str:
    """What was looked at and how tight the clusters are."""
    result, alike = one.result, one.result["cosines"]
    return (
        f"{plural(result['picked'], 'next token')} of the {count(result['good'])} that the model "
        f"predicts with a loss below {one.request['loss']:g} nats, of {count(result['looked'])} "
        f"looked at. Vectors: effects of features of {', '.join(result['dictionaries'])} on the "
        f"log probability. Mean cosine in a cluster {measure(alike['inside'], 2)}, in random "
        f"groups of the same sizes {measure(alike['chance'], 2)}. Kept as {one.id}."
    )


def table(place: Place, one: Experiment) -> str | None:
    """All clusters; gives the number of one that was clicked."""
    text = place.file.vocabulary.text
    rows = []
    for row in one.result["clusters"]:
        words = " ".join(f"{visible(text(t))}×{n}" for t, n in row["targets"][:4])
        judged = row["judged"]
        own, others = (estimate(judged[name]) if judged else ABSENT for name in ("own", "others"))
        held = count(judged["own"]["n"]) if judged else ABSENT
        features = ", ".join(feature["feature"] for feature in row["features"][:3])
        query = {"harvest": one.harvest, "experiment": one.id, CHOSEN: str(row["number"])}
        rows.append(
            {
                "href": session.href(session.BEHAVIOURS, query),
                "target": str(row["number"]),
                "cells": [str(row["number"]), count(row["n"]), words, own, others, held, features],
                "notes": [],
            }
        )
    hints = {
        "its features away, nats": "measured change of log p on held-out tokens with the cluster's "
        "features zero together",
        "another's away": "the same with the features of another cluster",
        "held out": "tokens of the score split on which this was measured",
    }
    heads = [{"name": n, "kind": k, "hint": hints.get(n, "")} for n, k in HEADS]
    with st.container(height=TALL if len(rows) > SHORT else "content", border=False):
        clicked = components.rows(
            key=TABLE,
            data={"ruled": True, "columns": heads, "rows": rows},
            on_go_change=components.ignore,
        )
    return clicked.go


def estimate(one: Mapping[str, Any]) -> str:
    """A value, with its interval where there is one."""
    value, low, high = (None if one[x] is None else nats(one[x]) for x in ("value", "low", "high"))
    return str(value) if low is None else f"{value} ({low} to {high})"


def nats(value: float) -> str:
    """To a hundredth."""
    return format_fixed(value, signed=True).replace("-", "−")


def cluster(place: Place, file: HarvestFile, chosen: Mapping[str, Any]) -> None:
    """One cluster: its features, and where its predictions stand."""
    st.subheader(f"Cluster {chosen['number']}", anchor=False)
    left, right = st.columns([13, 8], gap="medium")
    with left:
        st.caption(
            "The most typical predictions: the outlined token is the last that is read, the next "
            "one is predicted. Heat: the largest effect of any one feature at a token. In front: "
            "the probability."
        )
        contexts(place, file, chosen)
    with right:
        features(place, chosen)


def contexts(place: Place, file: HarvestFile, chosen: Mapping[str, Any]) -> None:
    """Members as lines."""
    lines = []
    for i, one in enumerate(chosen["members"]):
        query = {**place.query, "sequence": str(one["sequence"]), "position": str(one["position"])}
        lines.append(
            {
                **drawn(file, one),
                "alike": i,
                "href": session.href(session.DOCUMENT, query),
                "target": f"{one['sequence']}-{one['position']}",
                "max": max([abs(x) for x in one["heat"]], default=0.0) or 1.0,
                "name": file.documents[int(file.sequences.document[one["sequence"]])],
            }
        )
    section = {"title": "", "note": plural(chosen["n"], "token"), "lines": lines}
    got = components.contexts(
        key=CONTEXTS,
        data={
            "groups": [{"name": "members", "sections": [section]}],
            "max": 1.0,
            "asked": {"width": "16", "group": ""},
        },
        on_go_change=components.ignore,
        on_asked_change=components.ignore,
    )
    if target := got.get("go"):
        sequence, position = target.split("-")
        query = {**place.query, "sequence": sequence, "position": position}
        st.switch_page(session.DOCUMENT, query_params=query)


def drawn(file: HarvestFile, one: Mapping[str, Any]) -> dict[str, Any]:
    """A prediction as the component takes it."""
    heat, at = one["heat"], int(one["position"])
    start = at + 1 - len(heat)
    hot = [(start + i, float(x)) for i, x in enumerate(heat) if x]
    context = Context(
        stratum="top",
        rank=0,
        weight=None,
        split=one["split"],
        start=start,
        length=len(heat),
        document=int(file.sequences.document[one["sequence"]]),
        sequence=int(one["sequence"]),
        peak=at,
        value=math.exp(-one["loss"]),
        positions=[i for i, _ in hot],
        activations=[x for _, x in hot],
    )
    begin = max(at - REACH, 0)
    ids = file.sequences.window(one["sequence"], begin, at + REACH + 1 - begin)
    texts = file.vocabulary.display(ids)
    return vars(line(context, begin, ids, texts, file.documents[int(context.document)]))


def features(place: Place, chosen: Mapping[str, Any]) -> None:
    """The features behind it, and a way to keep them as a list."""
    rows, judged, harvest = chosen["features"], chosen["judged"], place.file.record.id
    if not rows:
        st.caption("No member is of the explain split, so that no features were chosen.")
        return
    ids = [FeatureId.parse(row["feature"]) for row in rows]
    words = told(place, [{"dictionary": one.dictionary, "feature": one.index} for one in ids])
    heads = [
        ("feature", ""),
        ("", ""),
        ("weight", "number"),
        ("effect", "number"),
        ("of members", "number"),
    ]
    hints = {
        "weight": "mean over members of its part in the vector of length 1",
        "effect": "mean change of log p when it is zero, nats, estimated by gradient × activation",
        "of members": "for which it is among the features kept",
    }
    lines = [
        {
            "href": session.href(session.FEATURE, {"harvest": harvest, "feature": r["feature"]}),
            "target": r["feature"],
            "notes": [],
            "cells": [
                r["feature"],
                words.get(r["feature"], ""),
                signed(r["weight"]),
                signed(r["effect"], 2),
                share(r["share"]),
            ],
        }
        for r in rows
    ]
    columns = [{"name": n, "kind": k, "hint": hints.get(n, "")} for n, k in heads]
    clicked = components.rows(
        key="behaviours_features",
        data={"ruled": False, "columns": columns, "rows": lines},
        on_go_change=components.ignore,
    )
    if clicked.go:
        query = {"harvest": place.file.record.id, "feature": clicked.go}
        st.switch_page(session.FEATURE, query_params=query)
    collecting.menu(ids, "behaviours_keep", annotations.read())
    st.caption(session.literal(proof(chosen, judged)))


def proof(chosen: Mapping[str, Any], judged: Mapping[str, Any] | None) -> str:
    """What was measured, and what was not."""
    said = f"Chosen on {plural(chosen['explain'], 'member')} of the explain split. "
    if judged is None:
        return said + "Not judged: no held-out member, or no other cluster to compare with."
    n, own, other = judged["own"]["n"], judged["own"], judged["others"]
    return said + (
        f"With these zero together ({', '.join(judged['features'])}), log p changes by "
        f"{estimate(own)} nats on {plural(n, 'held-out token')}; with as many of cluster "
        f"{judged['other']} by {estimate(other)}. This says that they are needed, not that they "
        "are enough: faithfulness is not computed here; the Circuits page does so for a prompt."
    )
