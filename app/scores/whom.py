"""Which language-model server a page's job asks: one of those that are configured, no other."""

import streamlit as st

from app import session
from app.jobs.asking import Asking
from autointerp.llm import LlmServer, load_servers
from feature_store.errors import InputError

NONE = (
    "No language-model server is configured. Put one into servers.toml, or set OPENAI_API_KEY, "
    "and start the app again: docs/servers.md says how."
)


def choose(key: str, *, budget: bool = False) -> Asking | None:
    """Fields for server and model, and with `budget` for a cap; None, and a sentence, until it is
    clear whom to ask."""
    try:
        known = load_servers()
    except InputError as error:
        st.markdown(f":red[{session.literal(str(error))}]")
        return None
    if not known:
        st.markdown(f":yellow[{session.literal(NONE)}]")
        return None
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        name = st.selectbox("Server", sorted(known), key=f"{key}_server", width=160)
        server = known[name]
        model = (
            st.selectbox(
                "Model",
                server.models,
                key=f"{key}_model_{name}",
                width=260,
                index=0,
                accept_new_options=True,
                placeholder="its name on the server",
            )
            if server.models
            else st.text_input(
                "Model", key=f"{key}_model_{name}", width=260, placeholder="its name on the server"
            )
        )
        cap = None
        if budget:
            cap = st.number_input(
                "Budget, US dollars",
                key=f"{key}_budget",
                min_value=0.0,
                value=None,
                width=150,
                placeholder="no cap",
                help="The job ends before it costs more, and keeps what it "
                "has. Needs a price for the model: docs/servers.md.",
            )
    if sentence := keyless(server):
        st.markdown(f":yellow[{session.literal(sentence)}]")
    if not (model or "").strip():
        st.caption("Say which model to ask.")
        return None
    return Asking(server.base_url, str(model).strip(), cap)


def keyless(server: LlmServer) -> str:
    """What is missing of a server that needs a key."""
    if server.key_env and not server.key():
        return (
            f"{server.name} needs a key, and {server.key_env} is not set where this app runs: set "
            "it and start the app again."
        )
    return ""
