"""A person's SQL over the harvest and the annotations: read-only, limited, stopped on demand."""

import streamlit as st

from app import export, frame, session
from app.session import Place
from app.wording import THIN, count, measure, plural
from feature_store.errors import InputError
from feature_store.sql_console import (
    MAX_ROWS,
    MEMORY_MEGABYTES,
    QUERY_SECONDS,
    SqlError,
    SqlQuery,
    SqlResult,
    list_console_tables,
)

TEXT, ADOPTED, QUERY, PROBLEM = "sql_text", "sql_adopted", "sql_query", "sql_problem"
"""Keys of the session: the editor's text, the URL's query that it came from, the query at work, why
the text was not asked."""
LONGEST = 6000
"""Characters of a query: it has to fit into a URL."""
PROMPTLY_S = 0.8
"""Most queries answer within this: then nothing flickers."""


def examples(dictionary: str) -> dict[str, str]:
    """Queries to begin from."""
    name = dictionary.replace("'", "''")
    return {
        "Strongest features": f"""SELECT feature, density, max_act, top_token_share
FROM feature
WHERE dictionary = '{name}' AND n_active > 0
ORDER BY max_act DESC
LIMIT 100""",
        "Tokens of one-token features": f"""SELECT text, count(*) AS features,
  avg(density) AS density
FROM feature JOIN token ON token_id = top_token
WHERE dictionary = '{name}' AND top_token_share > 0.5
GROUP BY ALL
ORDER BY features DESC""",
        "Labels in force": """SELECT dictionary, feature, density,
  arg_max(value, annotation) AS label
FROM annotation JOIN feature USING (dictionary, feature)
WHERE kind = 'label'
GROUP BY ALL
HAVING label <> ''
ORDER BY dictionary, feature""",
    }


def adopt() -> str:
    """The query that the URL asks for; a new one takes the editor over."""
    wanted = st.query_params.get(session.QUERY, "")
    if TEXT not in st.session_state or st.session_state.get(ADOPTED) != wanted:
        st.session_state[TEXT] = wanted or st.session_state.get(session.WRITTEN, "")
    st.session_state[ADOPTED] = wanted
    return wanted


def write(text: str) -> None:
    """Callback: another text in the editor, run at once."""
    st.session_state[TEXT] = text
    run()


def run() -> None:
    """Callback: the editor's text goes into the URL and is asked again."""
    keep()
    stop()
    text = st.session_state[TEXT].strip()
    if len(text) > LONGEST:
        st.session_state[PROBLEM] = (
            f"The query has {count(len(text))} characters; a link holds {count(LONGEST)}. Shorten "
            "it, or ask in Python: Export has the lines."
        )
        return
    st.query_params[session.QUERY] = st.session_state[ADOPTED] = text


def keep() -> None:
    """Callback: what was typed is there on the way back to the page."""
    st.session_state[session.WRITTEN] = st.session_state[TEXT]


def stop() -> None:
    """Let go of the query at work."""
    held = st.session_state.pop(QUERY, None)
    if held:
        held[1].cancel()


def editor(here: Place) -> None:
    """The text and what to do with it."""
    st.text_area(
        "Query",
        key=TEXT,
        height=170,
        on_change=keep,
        label_visibility="collapsed",
        placeholder="SELECT * FROM feature LIMIT 10",
    )
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        st.button("Run", type="primary", on_click=run, shortcut="Ctrl+Enter")
        for title, text in examples(here.info.dictionary).items():
            st.button(title, type="tertiary", on_click=write, args=[text])


def outcome(here: Place, sql: str) -> None:
    """The answer to the URL's query, what was said against it, or that it is under way."""
    key = (here.file.record.id, sql)
    held = st.session_state.get(QUERY)
    if held is None or held[0] != key:
        stop()
        held = st.session_state[QUERY] = (key, SqlQuery(session.store(), here.file, sql))
    query: SqlQuery = held[1]
    if not query.wait(PROMPTLY_S):
        under_way(query)
        return
    try:
        answer = query.result()
    except SqlError as error:
        st.markdown(":red[The query gave no answer:]")
        st.code(str(error), language=None, wrap_lines=True)
        return
    show(answer)


@st.fragment(run_every=0.5)
def under_way(query: SqlQuery) -> None:
    """Since when, and a way to stop it; the page comes back when it ends."""
    if query.wait(0):
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Running; it is stopped after {QUERY_SECONDS:g}{THIN}s.")
        st.button("Cancel", on_click=query.cancel)


def show(answer: SqlResult) -> None:
    """The table, how much of the answer it is, and files to take away."""
    table = answer.table
    said = plural(table.num_rows, "row")
    if answer.truncated:
        said = f"The first {said}; there are more"
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        st.caption(f"{said} · {measure(answer.seconds, 2)}{THIN}s", width="stretch")
        for kind, write_file in (("CSV", export.as_csv), ("Parquet", export.as_parquet)):
            st.download_button(
                f"Download {kind}",
                lambda write_file=write_file: write_file(table),
                f"saefari.{kind.lower()}",
                type="tertiary",
                on_click="ignore",
            )
    if not table.num_rows:
        st.write("The query is right, and no row passes it.")
        return
    st.dataframe(
        table, key="sql_table", hide_index=True, row_height=28, height="auto", placeholder="NULL"
    )


def schema() -> None:
    """Every table with its columns; their meaning is in docs/data.md."""
    st.caption("Tables, their columns and types")
    for table, columns in list_console_tables().items():
        with st.expander(table):
            st.code("\n".join(f"{name}  {short(kind)}" for name, kind in columns), language=None)


def short(kind: str) -> str:
    """A column's type; the parts of a struct are named in the same words as the columns."""
    return "STRUCT" if kind.startswith("STRUCT") else kind.partition("(")[0]


place = session.place()
frame.sidebar(place)
with frame.bar(place):
    export.menu(
        export.sql_lines(
            session.shown_store(), place.file.record.id, st.query_params.get(session.QUERY, "")
        )
    )
st.title("SQL", anchor=False)
asked = adopt()
left, right = st.columns([4, 1], gap="medium")
with right:
    schema()
with left:
    editor(place)
    if problem := st.session_state.pop(PROBLEM, ""):
        st.markdown(f":red[{problem}]")
    elif asked:
        try:
            outcome(place, asked)
        except InputError as problem:
            st.markdown(f":red[{session.literal(str(problem))}]")
    else:
        st.caption(
            f"Reads the harvest {session.literal(place.file.record.id)} and a copy of the "
            f"annotations. {QUERY_SECONDS:g}{THIN}s, {count(MAX_ROWS)} rows and "
            f"{MEMORY_MEGABYTES}{THIN}MB at most."
        )
