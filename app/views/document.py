"""A document as the model read it, with one feature's heat in all of it."""

from typing import Any

import streamlit as st

from app import components, frame, live, pooling, session
from app.session import Place
from app.tokens import PIECE, visible
from app.wording import count, measure
from feature_store import document_segments
from feature_store.document_segments import DocumentSegment
from feature_store.errors import InputError
from feature_store.null_dictionaries import describe_shuffled_refusal, is_on_shuffled_model
from feature_store.records import FeatureId

SHOWN = 8
"""Segments on one page: a long document is read in parts."""
Acts = dict[int, float]
Asked = tuple[list[DocumentSegment], int, int | None]
"""A document's segments, which of them is meant, and the position to mark in it."""


def number(name: str) -> int | None:
    """A whole number from the URL."""
    text = st.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise InputError(f"{name}={text!r} is not a number. Write {name}=0 or more.")
    return int(text)


def wanted(place: Place) -> Asked:
    """The document that the URL names; an InputError for one that is not there."""
    file, sequence, document = place.file, number("sequence"), number("document")
    position = number("position")
    if sequence is None:
        if document is None:
            raise InputError("No document is named. Open one from a context of a feature.")
        if document >= len(file.documents):
            raise InputError(
                f"There is no document {document}: harvest {file.record.id} has documents 0 to "
                f"{len(file.documents) - 1}."
            )
        return document_segments.list_document_segments(file, document), 0, None
    document_segments.check_sequence(file, sequence)
    here = document_segments.find_segment(file, sequence, position or 0)
    if position is not None and position >= len(file.sequences.tokens(sequence)):
        raise InputError(
            f"Sequence {sequence} has positions 0 to {len(file.sequences.tokens(sequence)) - 1}, "
            f"not {position}."
        )
    whole = document_segments.list_document_segments(file, here.document)
    return whole, whole.index(here), position


def stored(
    place: Place, feature: FeatureId, one: DocumentSegment
) -> tuple[Acts, list[tuple[int, int]]]:
    """What the harvest kept of the feature in a segment, and where it knows all of it."""
    acts: Acts = {}
    known = []
    for context in place.file.contexts(feature):
        if context.sequence == one.sequence:
            acts.update(zip(context.positions, context.activations, strict=True))
            known.append((context.start, context.start + context.length))
    pool = pooling.of(place)
    tokens, values = pool.activations_of(feature.index)
    for window in pool.windows:
        if window.sequence == one.sequence:
            inside = (tokens >= window.first) & (tokens < window.first + window.length)
            positions = tokens[inside] - window.first + window.start
            acts.update(zip(positions.tolist(), values[inside].tolist(), strict=True))
            known.append((window.start, window.start + window.length))
    return acts, known


@st.cache_data(show_spinner=False, max_entries=512)
def computed(_place: Place, harvest: str, feature: str, sequence: int) -> Acts | None:
    """The feature's activations on a whole sequence, by the model; None while it is loading."""
    engine = live.at_hand(_place.file)
    if engine is None:
        return None
    text = engine.text(_place.file.sequences.tokens(sequence).tolist())
    name = _place.info.dictionary
    found = engine.compute_activations(text, [name])[name].by_position(
        FeatureId.parse(feature).index
    )
    return {p: v for p, v in found.items() if text.counted[p]}


def written(
    place: Place, one: DocumentSegment, acts: Acts, known: list[tuple[int, int]], here: int | None
) -> dict[str, Any]:
    """A segment as the component takes it."""
    ids = place.file.sequences.window(one.sequence, one.begin, one.end - one.begin)
    texts = place.file.vocabulary.display(ids)
    inside = {p - one.begin: v for p, v in acts.items() if one.begin <= p < one.end}
    split = place.file.rows(
        "SELECT split::VARCHAR AS split FROM sequence WHERE sequence = ?", [one.sequence]
    ).to_pylist()[0]["split"]
    return {
        "title": f"sequence {one.sequence} · {split} split · {len(ids)} tokens"
        + (f" · at most {measure(max(inside.values(), key=abs))}" if inside else ""),
        "first": one.begin,
        "texts": [visible(t) or (PIECE if i in inside else "") for i, t in enumerate(texts)],
        "ids": ids.tolist(),
        "breaks": [i for i, text in enumerate(texts) if "\n" in text],
        "acts": [(p, round(v, 5)) for p, v in sorted(inside.items())],
        "known": [(low - one.begin, high - one.begin) for low, high in known],
        "here": here - one.begin if here is not None else None,
    }


def engine_is_there(place: Place) -> bool:
    """Whether the model can fill in what was not stored; says why not."""
    try:
        if is_on_shuffled_model(place.info):
            raise InputError(describe_shuffled_refusal(place.info.dictionary))
        return live.ready(place.file, [place.info.dictionary]) is not None
    except InputError as error:
        st.caption(f"Only stored windows have activations. {session.literal(str(error))}")
        return False


def draw(place: Place, feature: FeatureId | None, asked: Asked) -> None:
    """Name, place, text."""
    whole, middle, position = asked
    st.title(session.literal(place.file.documents[whole[middle].document]), anchor=False)
    begin = max(0, min(middle - SHOWN // 2, len(whole) - SHOWN))
    part = whole[begin : begin + SHOWN]
    n = sum(one.end - one.begin for one in whole)
    st.caption(f"document {whole[0].document} of {place.file.record.corpus} · {count(n)} tokens")
    if feature is not None:
        facts = place.file.facts(feature)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.page_link(
                session.FEATURE,
                label=f"Back to {session.literal(str(feature))}",
                query_params=place.at(feature.index),
            )
            st.caption(f"heat: activation ÷ {measure(facts.max_act)}, its maximum")
    steps(place, feature, whole, begin)
    live_now = feature is not None and engine_is_there(place)
    drawn = []
    for one in part:
        acts: Acts = {}
        known: list[tuple[int, int]] = [(one.begin, one.end)] if feature is None else []
        if feature is not None:
            acts, known = stored(place, feature, one)
            exact = None
            if live_now:
                exact = computed(place, place.file.record.id, str(feature), one.sequence)
            if exact is not None:
                acts, known = exact, [(one.begin, one.end)]
        here = position if one == whole[middle] else None
        drawn.append(written(place, one, acts, known, here))
    top = place.file.facts(feature).max_act if feature is not None else None
    components.document(key="document_text", data={"max": top or 1.0, "segments": drawn})


def steps(
    place: Place, feature: FeatureId | None, whole: list[DocumentSegment], begin: int
) -> None:
    """Links to what lies before and after, for a document longer than a page."""
    if len(whole) <= SHOWN:
        return
    query = place.at(feature.index) if feature is not None else place.query
    st.caption(f"segments {begin + 1} to {min(begin + SHOWN, len(whole))} of {count(len(whole))}")
    with st.container(horizontal=True):
        for label, to in (("Earlier", begin - SHOWN // 2), ("Later", begin + SHOWN + SHOWN // 2)):
            there = min(max(to, 0), len(whole) - 1)
            if there != begin + SHOWN // 2 and 0 <= to < len(whole) + SHOWN // 2:
                st.page_link(
                    session.DOCUMENT,
                    label=label,
                    query_params=query
                    | {"sequence": str(whole[there].sequence), "position": str(whole[there].begin)},
                )


place = session.place()
given = st.query_params.get("feature")
feature = place.file.check_feature(FeatureId.parse(given)) if given is not None else None
asked = wanted(place)
frame.sidebar(place)
frame.bar(place)
draw(place, feature, asked)
