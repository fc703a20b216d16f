"""Files on the Lists page: everything that people said, out and in; explanations taken back."""

from typing import cast

import pyarrow as pa
import streamlit as st

from app import annotations, keeping, session
from app.commands.exchange import summary
from app.session import Place
from app.wording import count, plural
from feature_store.errors import InputError
from feature_store.exchange.dictionary_names import DictionaryNames
from feature_store.exchange.import_reader import read_dictionary_sizes, read_import_bytes
from feature_store.exchange.import_rows import ROW_SCHEMAS, RowKind
from feature_store.exchange.import_writer import save_import, withdraw_explanations
from feature_store.exchange.saefari_files import FORMATS, collect_rows, encode_rows

FILE, MEANS, TOLD = "exchange_file", "exchange_means", "exchange_told"
WORDS = {"labels": "labels, notes and stars", "lists": "lists", "explanations": "explanations"}


def draw(here: Place | None, said: annotations.Said) -> None:
    """Export on the left, import on the right."""
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Export**")
        for what in ROW_SCHEMAS:
            out(what, said)
        st.caption("Dashboards for Neuronpedia: `saefari export --what dashboards`")
    with right:
        st.markdown("**Import**")
        if said.writable:
            into(here)
        else:
            st.caption(keeping.READ_ONLY)


def out(what: RowKind, said: annotations.Said) -> None:
    """One kind, as files made when they are asked for."""
    n = counted(what, said)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.markdown(f"{WORDS[what]} ({count(n)})", width=260)
        for kind in FORMATS:
            st.download_button(
                "JSON" if kind == "json" else "Parquet",
                lambda kind=kind: encode_rows(what, collect_rows(what, said.annotations), kind),
                f"{what}.{kind}",
                key=f"exchange_{what}_{kind}",
                type="tertiary",
                on_click="ignore",
                disabled=not n,
            )


def counted(what: RowKind, said: annotations.Said) -> int:
    """How many there are."""
    found = said.annotations
    if what == "lists":
        return len(found.lists.current)
    return (found.in_force if what == "labels" else found.explanations.table).num_rows


def into(here: Place | None) -> None:
    """A file, and which dictionary another tool's name means."""
    names = sorted(read_dictionary_sizes(session.store()))
    with st.form("exchange_form", border=False, clear_on_submit=True):
        st.file_uploader(
            "A file of labels, lists or explanations: of Saefari (.json, .parquet) or Neuronpedia "
            "(.jsonl, .jsonl.gz, .json)",
            key=FILE,
        )
        st.selectbox(
            "Dictionary of a Neuronpedia file",
            names,
            key=MEANS,
            index=names.index(here.info.dictionary) if here else None,
        )
        st.form_submit_button("Import", on_click=take)
    if told := st.session_state.pop(TOLD, None):
        st.write(session.literal(told))


def take() -> None:
    """Callback: all of the file, or nothing and the reason."""
    file, means = st.session_state[FILE], st.session_state[MEANS]
    if file is None:
        keeping.refuse("Choose a file to import.")
        return
    names = DictionaryNames(read_dictionary_sizes(session.store()), {"": means} if means else {})
    try:
        found = read_import_bytes(file.getvalue(), file.name, names)
    except InputError as error:
        keeping.refuse(str(error))
        return
    taken = keeping.attempt(save_import, found)
    if taken:
        st.session_state[TOLD] = summary(found.kind, taken.new, taken.same, found.left_out)


def explanations(said: annotations.Said) -> None:
    """Which explanations the store has, by dictionary and explainer; each lot can be taken back."""
    table = said.annotations.explanations.table
    if not table.num_rows:
        return
    with st.expander(f"Explanations ({count(table.num_rows)})"):
        for name, explainer, model, n in lots(table):
            by = " · ".join(filter(None, [explainer, model])) or "nobody named"
            with st.container(horizontal=True, gap="small", vertical_alignment="center"):
                sentence = f"{name}: {plural(n, 'explanation')} by {by}"
                st.markdown(session.literal(sentence), width="stretch")
                if said.writable:
                    st.button(
                        "Take back",
                        key=f"withdraw_{name}_{explainer}_{model}",
                        type="tertiary",
                        on_click=take_back,
                        args=(name, explainer, model),
                        help="An import brings them again.",
                    )


def lots(table: pa.Table) -> list[tuple[str, str, str, int]]:
    """(dictionary, explainer, model, how many)."""
    keys = ["dictionary", "explainer", "model"]
    grouped = (
        table.group_by(keys)
        .aggregate([("text", "count")])
        .sort_by([(key, "ascending") for key in keys])
    )
    columns = [grouped[name].to_pylist() for name in (*keys, "text_count")]
    return cast(list[tuple[str, str, str, int]], list(zip(*columns, strict=True)))


def take_back(dictionary: str, explainer: str, model: str) -> None:
    """Callback: these explanations are no longer in force."""
    n = keeping.attempt(withdraw_explanations, dictionary, explainer, model)
    if n:
        st.session_state[TOLD] = f"{plural(n, 'explanation')} taken back."
