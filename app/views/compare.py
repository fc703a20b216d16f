"""Features of one harvest side by side: facts, pairs, and the contexts that they share."""

import streamlit as st

from app import annotations, comparison, components, frame, pooling, session, wanted
from app.comparison import MOST, WINDOWS, Window
from app.panels.contexts import DEFAULT_REQUEST, wants_whole_sequences
from app.session import DOCUMENT, FEATURE, Place
from app.tokens import visible
from app.wording import ABSENT, count, measure, plural, share, signed
from backend.engine_protocol import Engine
from feature_store.errors import InputError
from feature_store.records import FeatureId

TYPED, ERROR = "compare_typed", "compare_error"
TOKENS = 5
"""Tokens shown of a list."""
SHARED = "compare_contexts"
Cosines = list[list[float | None]]


def heads(*columns: tuple[str, str, str]) -> list[dict[str, str]]:
    """Columns of a table: name, kind, hint."""
    return [dict(zip(("name", "kind", "hint"), one, strict=True)) for one in columns]


FACTS = heads(
    ("feature", "", ""),
    ("label", "", ""),
    ("hook point", "", ""),
    ("density", "number", "share of counted tokens"),
    ("windows", "number", "share of windows"),
    ("max", "number", "largest |activation|"),
    ("mean", "number", "mean |activation| where it is active"),
    ("skew", "number", "of the active values"),
    ("top token", "code", "the token with most of its activation, and that share"),
    ("promotes", "code", "direct effect on logits"),
    ("suppresses", "code", "direct effect on logits"),
)
PAIRS = heads(
    ("pair", "", ""),
    ("decoders", "number", "cosine, in the residual stream or at one hook point"),
    ("encoders", "number", "cosine, where both read the same"),
    ("φ", "number", "correlation of firing on the sampled tokens"),
    ("r", "number", "correlation of the activations on the sampled tokens"),
    ("tokens", "number", "on which the first, the second, and both fire"),
    ("promote both", "code", "tokens among the stored most promoted of both"),
    ("Jaccard", "number", "of the two stored lists of most promoted tokens"),
)


def add(place: Place, chosen: list[FeatureId]) -> None:
    """Callback: one more feature, by its number here or as DICTIONARY/INDEX."""
    text = st.session_state[TYPED].strip()
    st.session_state[TYPED] = ""
    if not text:
        return
    try:
        full = f"{place.info.dictionary}/{text}" if text.isdecimal() else text
        found = comparison.parse(place.file, [*map(str, chosen), full])
    except InputError as error:
        st.session_state[ERROR] = str(error)
        return
    name(place, found)


def name(place: Place, chosen: list[FeatureId]) -> None:
    """Put the features into the URL."""
    st.query_params.from_dict({"harvest": place.file.record.id, "feature": list(map(str, chosen))})


def choice(place: Place, chosen: list[FeatureId]) -> None:
    """The features as buttons that take one away, and a field for one more."""
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        for one in chosen:
            st.button(
                f"{session.literal(str(one))} ×",
                key=f"drop_{one}",
                on_click=name,
                args=(place, [other for other in chosen if other != one]),
                help="Take it away.",
            )
        if len(chosen) < MOST:
            st.text_input(
                "One more",
                key=TYPED,
                label_visibility="collapsed",
                width=220,
                placeholder=f"add: number or {place.info.dictionary}/0",
                on_change=add,
                args=(place, chosen),
            )
    if sentence := st.session_state.pop(ERROR, None):
        st.markdown(f":red[{session.literal(sentence)}]")


def fact(place: Place, one: FeatureId, label: str) -> dict[str, object]:
    """One feature's row."""
    file = place.file
    there, found = Place(file, file.dictionary(one.dictionary)), file.facts(one)
    token = ABSENT
    if found.top_token is not None:
        token = f"{visible(file.vocabulary.text(found.top_token))} {share(found.top_token_share)}"
    lists = (found.promoted_tokens, found.suppressed_tokens)
    cells = [
        str(one),
        label,
        " + ".join(there.info.read_hooks),
        share(found.density),
        share(found.window_density),
        measure(found.max_act),
        measure(found.mean_act),
        measure(found.skew, 2),
        token,
        *(comparison.words(place, tokens[:TOKENS]) if tokens else ABSENT for tokens in lists),
    ]
    query = there.at(one.index)
    return {"href": session.href(FEATURE, query), "target": str(one), "cells": cells, "notes": []}


def facts(place: Place, chosen: list[FeatureId]) -> None:
    """A row a feature; a click opens it."""
    said = annotations.read().annotations
    rows = [fact(place, one, said.values_of_feature(one).get("label", "")) for one in chosen]
    data = {"ruled": True, "columns": FACTS, "rows": rows}
    got = components.rows(key="compare_facts", data=data, on_go_change=components.ignore)
    if target := got.get("go"):
        one = FeatureId.parse(target)
        there = Place(place.file, place.file.dictionary(one.dictionary))
        st.switch_page(FEATURE, query_params=there.at(one.index))


@st.cache_data(show_spinner=False, max_entries=64)
def cosines(_engine: Engine, harvest: str, features: list[str]) -> tuple[Cosines, Cosines]:
    """Of the decoders, of the encoders."""
    found = [FeatureId.parse(text) for text in features]
    return _engine.pairwise_cosines(found, "decoder"), _engine.pairwise_cosines(found, "encoder")


def number(known: Cosines | None, i: int, j: int) -> str:
    """A cosine as the table shows it."""
    if known is None:
        return ABSENT
    value = known[i][j]
    return "different spaces" if value is None else signed(value)


def pairs(place: Place, chosen: list[FeatureId], engine: Engine | None) -> None:
    """A row a pair."""
    file = place.file
    known: tuple[Cosines | None, Cosines | None] = (None, None)
    if engine is not None:
        known = cosines(engine, file.record.id, list(map(str, chosen)))
    rows, n = [], 0
    for a, b, joint, r in comparison.pairs(file, chosen):
        n = joint.n_tokens
        logits = comparison.shared_logits(file.facts(a), file.facts(b))
        both = comparison.words(place, logits[0][:TOKENS]) if logits else ABSENT
        jaccard = f"{measure(logits[2], 2)} of {logits[1]}" if logits else ABSENT
        where = chosen.index(a), chosen.index(b)
        cells = [
            f"{a} · {b}",
            *(number(one, *where) for one in known),
            ABSENT if joint.phi is None else signed(joint.phi),
            ABSENT if r is None else signed(r),
            f"{count(joint.first)} · {count(joint.second)} · {count(joint.together)}",
            both,
            jaccard,
        ]
        rows.append({"href": "", "target": None, "cells": cells, "notes": []})
    components.rows(key="compare_pairs", data={"ruled": True, "columns": PAIRS, "rows": rows})
    st.caption(f"φ, r and tokens over {plural(n, 'sampled token')} of random windows")


def shared(place: Place, chosen: list[FeatureId], engine: Engine | None) -> None:
    """Contexts under every feature at once: found by chance, and read again by the model."""
    asked = (st.session_state.get(SHARED) or {}).get("asked") or DEFAULT_REQUEST
    found = comparison.together(place.file, chosen)
    views = {"fire together": found[:WINDOWS]}
    if engine is not None:
        views["strongest of each"] = comparison.reread(place.file, chosen, engine)
    groups = [
        {
            "name": title,
            "sections": [section(place, w, wants_whole_sequences(asked, title)) for w in windows],
        }
        for title, windows in views.items()
        if windows
    ]
    of = plural(len(pooling.of(place).windows), "window")
    st.caption(f"Two or more of them fire in {count(len(found))} of {of} drawn at random.")
    if not groups:
        return
    got = components.contexts(
        key=SHARED,
        data={"groups": groups, "max": 1.0, "asked": asked},
        on_go_change=components.ignore,
        on_asked_change=components.ignore,
    )
    if target := got.get("go"):
        one, sequence, position = target.rsplit(" ", 2)
        query = {"harvest": place.file.record.id, "feature": one}
        st.switch_page(DOCUMENT, query_params=query | {"sequence": sequence, "position": position})


def section(place: Place, window: Window, whole: bool) -> dict[str, object]:
    """One window as the component takes it."""
    address = {
        one: session.href(DOCUMENT, {"harvest": place.file.record.id, "feature": str(one)})
        for one in window.acts
    }
    lines = comparison.drawn(place.file, window, address, whole)
    return {"title": place.file.documents[window.at.document], "note": "", "lines": lines}


place = session.place()
chosen = comparison.parse(place.file, st.query_params.get_all("feature"))
frame.sidebar(place)
frame.bar(place)
st.title("Compare", anchor=False)
choice(place, chosen)
if len(chosen) < 2:
    st.caption(f"Name 2 to {MOST} features of this harvest, of any of its dictionaries.")
if chosen:
    facts(place, chosen)
if len(chosen) > 1:
    st.subheader("Pairs", anchor=False)
    names = [one.dictionary for one in chosen]
    engine = wanted.engine(
        place.file, "compare", "Compare weights and read strongest contexts", names
    )
    pairs(place, chosen, engine)
    st.subheader("Shared contexts", anchor=False)
    shared(place, chosen, engine)
