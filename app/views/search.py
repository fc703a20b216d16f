"""Find features by what they are called, and by the tokens they fire on or promote."""

import streamlit as st

from app import annotations, finding, frame, session
from app.finding import Found
from app.session import Place
from app.tokens import visible
from app.wording import plural
from feature_store.errors import pick
from feature_store.token_search import Wanted

KEYS = {"q": "search_q", "by": "search_by", "in": "search_in"}
"""Parameter of the URL → key of its widget."""
WHERE = {"harvest": "all dictionaries", "dictionary": "this dictionary"}
SHOWN = 24
"""Tokens listed above the results."""
EMPTY = """
Type a word or a token, for instance:

- `park`: features labelled so (a typing error is forgiven), that fire on the token or promote it
- `" the"`: in quotes, exactly this token, with its space
- `↵` or `\\n`: a line break
"""
COLUMNS = {
    "dictionary": st.column_config.TextColumn("dictionary", width="small"),
    "feature": st.column_config.NumberColumn("feature", format="%d", width="small"),
    "label": st.column_config.TextColumn("label", width="medium"),
    "why": st.column_config.TextColumn("why it is here", width="large"),
    "density": st.column_config.NumberColumn(
        "density", format="%.3g %%", help="share of tokens on which it is active"
    ),
    "max": st.column_config.NumberColumn(
        "max", format="%.2f", help="largest |activation|, special tokens left out"
    ),
}


def asked() -> tuple[str, str, str]:
    """Query, by what, and where: from the URL, else what this visitor asked last."""
    given = st.query_params.to_dict()
    if not given.keys() & KEYS.keys():
        given = st.session_state.get("search_kept", {})
        st.query_params.update(given)
    by, where = given.get("by", "all"), given.get("in", "harvest")
    pick("kind of search", by, finding.BY)
    pick("place to search", where, WHERE)
    return given.get("q", ""), by, where


def keep() -> None:
    """Callback: the widgets' values go into the URL, which decides in the next run."""
    values = {name: st.session_state[key] for name, key in KEYS.items()}
    usual = {"q": "", "by": "all", "in": "harvest"}
    changed = {name: value for name, value in values.items() if value and value != usual[name]}
    st.session_state["search_kept"] = changed
    others = {n: v for n, v in st.query_params.to_dict().items() if n not in KEYS}
    st.query_params.from_dict({**others, **changed})


def fields(values: tuple[str, str, str]) -> None:
    """The query and its two choices."""
    for key, value in zip(KEYS.values(), values, strict=True):
        if st.session_state.get(key) != value:
            st.session_state[key] = value
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        st.text_input(
            "Search", key=KEYS["q"], on_change=keep, max_chars=finding.LONGEST,
            placeholder="label or token", width=360, label_visibility="collapsed",
        )  # fmt: skip
        st.segmented_control(
            "by", list(finding.BY), key=KEYS["by"], required=True, on_change=keep,
            format_func=finding.BY.__getitem__,
        )  # fmt: skip
        st.segmented_control(
            "in", list(WHERE), key=KEYS["in"], required=True, on_change=keep,
            format_func=WHERE.__getitem__,
        )  # fmt: skip


def meant(wanted: Wanted) -> str:
    """Which tokens the query was taken for."""
    vocabulary = place.file.vocabulary
    texts = [f"“{visible(vocabulary.text(i))}”" for i in wanted.ids[:SHOWN]]
    if not texts:
        return "no token is spelled or begins so"
    more = len(wanted.ids) - len(texts)
    tail = f" and {more} more" if more else ""
    return f"as tokens{' that begin so' * (wanted.how == 'beginning so')}: {' '.join(texts)}{tail}"


def results(found: list[Found], wanted: Wanted | None) -> None:
    """One line that says what was looked for, and the table; a click opens the feature."""
    full = len(found) >= finding.LIMIT
    said = [("the first " if full else "") + plural(len(found), "feature")]
    if wanted is not None:
        said.append(meant(wanted))
    st.caption(session.literal(" · ".join(said)))
    if not found:
        st.write("Nothing was found. Try a shorter word, all dictionaries, or everything.")
        return
    picked = st.dataframe(
        finding.table(found), key="search_results", hide_index=True, row_height=28, lazy=False,
        height=min(35 + 28 * len(found) + 4, 560), on_select="rerun",
        selection_mode="single-cell", column_config=COLUMNS,
    )  # fmt: skip
    cells = picked["selection"]["cells"]
    if cells:
        one = found[cells[0][0]]
        there = Place(place.file, place.file.dictionary(one.dictionary))
        st.switch_page(session.FEATURE, query_params=there.at(one.feature))


place = session.place()
query, by, where = asked()
said = annotations.read()
frame.sidebar(place)
frame.bar(place)
st.title("Search", anchor=False)
fields((query, by, where))
if said.problem:
    st.markdown(f":yellow[{session.literal(f'Labels may be out of date. {said.problem}')}]")
if query.strip(" \t\n"):
    names = list(place.file.dictionaries) if where == "harvest" else [place.info.dictionary]
    results(*finding.find(query, by, place.file, names, said.annotations.labels))
else:
    st.markdown(EMPTY)
