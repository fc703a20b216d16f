"""Find features: by what they are called or mean, by the tokens they fire on, by a text."""

from typing import Any

import pyarrow as pa
import streamlit as st

from app import (
    annotations,
    collecting,
    components,
    finding,
    firing,
    frame,
    live,
    meaning,
    session,
    strip,
)
from app.session import Place
from app.tokens import promotes, visible
from app.wording import count, plural
from backend.engine_protocol import Engine, TokenizedText
from feature_store.errors import InputError, pick_by_name
from feature_store.null_dictionaries import list_model_dictionaries
from feature_store.records import FeatureId
from feature_store.token_search import TokenQuery

USUAL = {"q": "", "by": "all", "in": "harvest", "sort": "relative", "at": ""}
"""The URL's parameters of a search, and what they are when they are not there."""
WIDGETS = {"q": "search_q", "by": "search_by", "in": "search_in", "sort": "search_sort"}
TEXT, STRIP = "search_text", "search_strip"
WHERE = {"harvest": "all dictionaries", "dictionary": "this dictionary"}
SHOWN = 24
"""Tokens listed above the results."""
ASKS = {
    "all": "a label or a token",
    "label": "words of a label",
    "meaning": "what it is about, in your words",
    "fires": "a token",
    "promotes": "a token",
    "text": "Type or paste a text, then Ctrl-Enter.",
}
TOKEN = '`" the"` in quotes is exactly this token with its space; `↵` or `\\n` is a line break.'
EMPTY = {
    "all": "Type a word or a token, for instance `park`: features labelled so (a typing error is "
    f"forgiven), that fire on the token, or that promote it. {TOKEN}",
    "label": "Type words of a label. Typing errors are forgiven, and beginnings of words count.",
    "meaning": "Type what a feature is about, for instance `somewhere to walk`: labels that mean "
    "the like are found, though they use other words.",
    "fires": f"Type a token, for instance `park`: features whose activation goes to it. {TOKEN}",
    "promotes": f"Type a token, for instance `park`: features that make it likelier. {TOKEN}",
    "text": "Type a text above: the model reads it, and the features that fire on it are listed.",
}
COLUMNS = {
    "dictionary": st.column_config.TextColumn("dictionary", width=84),
    "feature": st.column_config.NumberColumn("feature", format="%d", width=56),
    "label": st.column_config.TextColumn("label", width=120),
    "promotes": st.column_config.TextColumn(
        "promotes", width=150, help="the tokens that it makes likeliest, directly"
    ),
    "why": st.column_config.TextColumn("why it is here", width=320),
    "cosine": st.column_config.NumberColumn(
        "likeness",
        format="%.2f",
        width=64,
        help="cosine of query and label; 1 is the same, 0 unrelated",
    ),
    "token": st.column_config.TextColumn("strongest on", width=96),
    "position": st.column_config.NumberColumn("position", format="%d", width=60),
    "activation": st.column_config.NumberColumn("activation", format="%.2f", width=68),
    "share": st.column_config.NumberColumn(
        "÷ max", format="%.0f %%", width=56, help="activation ÷ the largest that the harvest saw"
    ),
    "density": st.column_config.NumberColumn(
        "density", format="%.3g %%", width=68, help="share of tokens on which it is active"
    ),
    "max": st.column_config.NumberColumn(
        "max", format="%.2f", width=60, help="largest |activation|, special tokens left out"
    ),
    "steer": st.column_config.TextColumn("", width=44, help="a click steers by the feature"),
}


WIDE = {
    "label": st.column_config.TextColumn("label", width=320),
    "why": st.column_config.TextColumn("why it is here", width=120),
}
BY_WORDS = {"label": WIDE, "meaning": WIDE}
"""Where words are searched for, they have the room."""


def asked() -> dict[str, str]:
    """The search in the URL, else what this visitor asked last."""
    given = {n: v for n, v in st.query_params.to_dict().items() if n in USUAL}
    if not given:
        given = st.session_state.get("search_kept", {})
        st.query_params.update(given)
    wanted = USUAL | given
    pick_by_name("kind of search", wanted["by"], finding.BY)
    pick_by_name("place to search", wanted["in"], WHERE)
    pick_by_name("order", wanted["sort"], firing.SORTS)
    return wanted


def keep(**changed: str) -> None:
    """Put part of a search into the URL, which decides in the next run."""
    if "q" in changed:
        changed["at"] = ""  # another text has other positions
    everything = st.query_params.to_dict() | changed
    kept = {n: v for n, v in everything.items() if USUAL.get(n) != v}
    st.session_state["search_kept"] = {n: v for n, v in kept.items() if n in USUAL}
    st.query_params.from_dict(kept)


def kept(name: str, key: str) -> dict[str, Any]:
    """What makes a widget show the URL's value, and write its own there."""
    if st.session_state.get(key) != wanted[name]:
        st.session_state[key] = wanted[name]
    return {"key": key, "on_change": lambda: keep(**{name: st.session_state[key] or ""})}


def choice(label: str, name: str, table: dict[str, str]) -> None:
    """One of a few words."""
    st.segmented_control(
        label,
        list(table),
        required=True,
        format_func=table.__getitem__,
        label_visibility="collapsed",
        **kept(name, WIDGETS[name]),
    )


def fields() -> None:
    """By what, where, and the query."""
    with st.container(horizontal=True, gap="medium"):
        choice("by", "by", finding.BY)
        choice("in", "in", WHERE)
    ask = {"placeholder": ASKS[wanted["by"]], "label_visibility": "collapsed"}
    if wanted["by"] == "text":
        st.text_area("Text", height=88, **ask, **kept("q", TEXT))
    else:
        st.text_input("Search", width=480, **ask, **kept("q", WIDGETS["q"]))


def meant(tokens: TokenQuery) -> str:
    """Which tokens the query was taken for."""
    vocabulary = place.file.vocabulary
    texts = [f"“{visible(vocabulary.text(i))}”" for i in tokens.ids[:SHOWN]]
    if not texts:
        return "no token is spelled or begins so"
    more = len(tokens.ids) - len(texts)
    tail = f" and {more} more" if more else ""
    return f"as tokens{' that begin so' * (tokens.how == 'beginning so')}: {' '.join(texts)}{tail}"


def warn(sentence: str) -> None:
    """What stands in the way, in amber."""
    st.markdown(f":orange[{session.literal(sentence)}]")


def show(table: pa.Table, more: dict[str, str] | None = None) -> None:
    """The table; a click opens the feature, with `more` in its URL, or steers by it."""
    table = with_promoted(table)
    behind = table.column_names.index("feature") + 1
    table = table.add_column(behind, "steer", pa.array(["steer"] * len(table), pa.string()))
    picked = st.dataframe(
        table,
        key="search_results",
        hide_index=True,
        row_height=28,
        lazy=False,
        height=min(35 + 28 * len(table) + 4, 560),
        on_select="rerun",
        selection_mode="single-cell",
        column_config=COLUMNS | BY_WORDS.get(wanted["by"], {}),
    )
    if cells := picked["selection"]["cells"]:
        name, number = (table[column][cells[0][0]].as_py() for column in ("dictionary", "feature"))
        at = Place(place.file, place.file.dictionary(name)).at(number)
        if cells[0][1] == "steer":
            st.switch_page(session.STEER, query_params=at)
        st.switch_page(session.FEATURE, query_params={**at, **(more or {})})


def with_promoted(table: pa.Table) -> pa.Table:
    """With what each feature promotes behind its label: most features have no label."""
    pairs = zip(table["dictionary"].to_pylist(), table["feature"].to_pylist(), strict=True)
    features = list(pairs)
    known = promotes(place.file, features)
    column = pa.array([known.get(one, "") for one in features], pa.string())
    return table.add_column(table.column_names.index("label") + 1, "promotes", column)


def by_words() -> None:
    """Labels by their words, and tokens."""
    labels = said.annotations.label_index
    explained = said.annotations.explanation_index
    found, tokens = finding.find(wanted["q"], wanted["by"], place.file, names, labels, explained)
    full = len(found) >= finding.LIMIT
    parts = [("the first " if full else "") + plural(len(found), "feature")]
    if tokens is not None:
        parts.append(meant(tokens))
    parts += ["click one to open it"] * bool(found)
    st.caption(session.literal(" · ".join(parts)))
    if found:
        collecting.menu([FeatureId(one.dictionary, one.feature) for one in found], "search", said)
        show(finding.table(found))
    else:
        st.write("Nothing was found. Try a shorter word, all dictionaries, or another way.")


def by_meaning() -> None:
    """Labels by what they mean."""
    texts = meaning.texts_of(said.annotations)
    if not any(name in names for name, _ in texts):
        st.write(
            "No feature here has a label or an explanation yet, and meaning is read from those. "
            "Label features on their pages, explain them on the Jobs page, or look for tokens."
        )
        return
    answer = meaning.find(wanted["q"], place.file, names, texts)
    if answer.problem:
        warn(answer.problem)
    found = finding.near(answer.found, place.file, said.annotations.feature_names)
    st.caption(session.literal(f"{plural(len(found), 'feature')} · {answer.said}"))
    if found:
        show(finding.table(found))
    else:
        st.write("No label is near. Try other words, or words that the corpus has.")


def by_text() -> None:
    """Features that fire on a text, or on selected tokens of it."""
    text = wanted["q"]
    try:
        engine = live.engine(place.file)
    except InputError as error:
        warn(str(error))
        return
    try:
        read, at = reading(engine, text)
    except InputError as error:
        warn(str(error))
        offer(engine, text)
        return
    asked = [name for name in names if name in list_model_dictionaries(place.file)] or names
    try:
        with live.dictionaries_said(engine, asked):
            found = firing.fired(engine, read, place.file.record.id, text, tuple(asked))
    except InputError as error:
        warn(str(error))
        return
    tokens(read)
    hits = firing.strongest(place.file, read, found, at)
    hits.sort(key=lambda hit: -hit.rank(wanted["sort"]))
    fired(hits, read, wanted["at"] != "")


def reading(engine: Engine, text: str) -> tuple[TokenizedText, tuple[int, int]]:
    """The text as the model reads it, and what is selected of it."""
    if len(text) > firing.LONGEST:
        raise InputError(
            f"A text may have {firing.LONGEST:,} characters here, so that a link can carry it; "
            f"this one has {len(text):,}. Cut it."
        )
    read = engine.read(text)
    return read, firing.span(wanted["at"], read)


def fired(hits: list[firing.Hit], read: TokenizedText, selected: bool) -> None:
    """The order, how many there are, and the best of them."""
    some = hits[: firing.LIMIT]
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        choice("order", "sort", firing.SORTS)
        there = {**place.query, "text": wanted["q"]}
        st.page_link(session.PROMPT, label="On the Prompt page", query_params=there)
    where = "the selected tokens" if selected else "the text"
    full = f", the first {len(some)} shown" if len(some) < len(hits) else ""
    opens = " · click one to open it" if some else ""
    st.caption(f"{plural(len(hits), 'feature')} active on {where}{full}{opens}")
    if some:
        table = firing.table(some, read, place.file, said.annotations.feature_names)
        show(table, {"test": wanted["q"]})


def tokens(read: TokenizedText) -> None:
    """The strip of tokens; what is selected in it goes into the URL."""
    selected = None if not wanted["at"] else firing.span(wanted["at"], read)
    n = sum(read.counted)
    st.caption(f"{plural(n, 'token')}. Click one, or drag over several, for what fires there.")
    components.strip(
        key=STRIP,
        data={"tokens": strip.tokens(read, place.file.vocabulary), "selected": selected},
        on_select_change=lambda: keep(at=(st.session_state[STRIP] or {}).get("select") or ""),
    )


def offer(engine: Engine, text: str) -> None:
    """A button out of a text that is too long, or of a selection that is not in it."""
    if wanted["at"] and firing.reads(engine, text):
        st.button("Select the whole text", on_click=lambda: keep(at=""))
        return
    shorter = firing.fitting(engine, text)
    if shorter and shorter != text:
        label = f"Cut to the first {count(len(shorter))} characters"
        st.button(label, on_click=lambda: keep(q=shorter))


def answer() -> None:
    """What was found, or why nothing was looked for."""
    query, by = wanted["q"], wanted["by"]
    if not query.strip(" \t\n"):
        st.caption(EMPTY[by])
    elif by == "text":
        by_text()
    elif len(query) > finding.LONGEST:
        warn(
            f"A query has at most {finding.LONGEST} characters; this one has {len(query):,}. "
            "Shorten it, or find the features that fire on it as a text."
        )
        st.button("Fires on this text", on_click=lambda: keep(by="text"))
    elif by == "meaning":
        by_meaning()
    else:
        by_words()


place = session.place()
wanted = asked()
said = annotations.read()
names = list(place.file.dictionaries) if wanted["in"] == "harvest" else [place.info.dictionary]
frame.sidebar(place)
frame.bar(place)
st.title("Search", anchor=False)
fields()
if said.problem:
    st.markdown(f":yellow[{session.literal(f'Labels may be out of date. {said.problem}')}]")
answer()
