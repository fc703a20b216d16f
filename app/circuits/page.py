"""A circuit on the page: what it is of, the graph, what is selected, and its proof."""

import streamlit as st

from app import session
from app.circuits import (
    beside,
    checking,
    chosen,
    curves,
    fields,
    figures,
    layout,
    marking,
    measuring,
    naming,
    picture,
    pruning,
    taking,
)
from app.circuits.asked import CircuitRequest
from app.circuits.opened import Open, problem
from app.components import graph
from app.session import Place
from app.wording import measure
from feature_store.circuit_graphs import CircuitSubgraph

PROMPT = 160
"""Characters of a prompt in the heading."""


def draw(place: Place, found: Open) -> None:
    """The whole."""
    heading(found)
    above = st.container(gap="xxsmall")
    with above:
        pruned = pruning.draw(found)
    what, also = chosen.marked(found)
    part = found.graph.select_subgraph(pruned.choice(found, [*also, *plain(chosen.ids(found))]))
    with above:
        measured = measuring.view(place, found, part)
        figures.draw(found, part, measured)
        marking.line(found)
        problem()
    names = naming.names(place, part.nodes)
    left, right = st.columns([2, 1], gap="medium")
    with left:
        drawn(place, found, part, names, also)
        with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
            checking.buttons(place, found)
            taking.menu(found, part, names)
        if found.circuit.effect_means:
            st.caption(session.literal(f"Effect: {found.circuit.effect_means}"))
        waiting = checking.draw(place, found) + (measured is None)
        curves.draw(found)
    with right:
        beside.draw(place, found, part, names)
    if waiting:
        measuring.wait(place, found, part, waiting)


def heading(found: Open) -> None:
    """Method, target, prompt; what to beware of."""
    circuit = found.circuit
    prompts = circuit.prompts
    said = prompts[0].text if prompts else ""
    more = f" and {len(prompts) - 1} more" if len(prompts) > 1 else ""
    base = f" · {circuit.baseline} baseline" if circuit.baseline else ""
    values = [
        f"{name} {measure(one.value)}"
        for name, one in (("on the model", circuit.clean), ("without any node", circuit.empty))
        if one
    ]
    st.markdown(
        f"**{session.literal(circuit.method)}**{base} · {session.literal(circuit.target)}"
        + (f" · {', '.join(values)}" if values else "")
    )
    text = said if len(said) <= PROMPT else "…" + said[-PROMPT:]
    if text:
        st.caption(session.literal(f"“{' '.join(text.split())}”{more}"))
    if circuit.notes:
        st.markdown(f":small[:yellow[{session.literal(' '.join(circuit.notes))}]]")


def leave(query: dict[str, str]) -> None:
    """Callback: back to the form and the list."""
    st.query_params.from_dict(query)


def again(query: dict[str, str], request: CircuitRequest) -> None:
    """Callback: the form, filled with what this circuit was asked."""
    fields.show(request)
    st.query_params.from_dict(query)


def plain(ids: list[str]) -> list[str]:
    """Selected nodes stay in the picture whatever the pruning; groups are there anyway."""
    return [one for one in ids if not one.startswith("group:")]


def drawn(
    place: Place, found: Open, part: CircuitSubgraph, names: dict[str, str], marked: list[str]
) -> None:
    """The graph."""
    infos = place.file.dictionaries

    def site(name: str) -> str:
        return infos[name].hook_out if name in infos else name

    data = picture.data(
        part,
        layout.lay(part.nodes, found.slots, site),
        names,
        circuit=found.id,
        slots=found.slots,
        pins=found.marks.pins,
        selected=chosen.ids(found),
        marked=marked,
        dark=st.context.theme.type == "dark",
        said=picture.sentence(part, found.graph.n_ablatable, found.graph.n_edges),
    )
    graph.graph(
        key=chosen.GRAPH,
        data=data,
        on_selected_change=lambda: chosen.take(found.id),
        on_open_change=lambda: opened(found),
    )
    target = (st.session_state.get(chosen.GRAPH) or {}).get("open")
    node = found.nodes.get(target or "")
    here = beside.other(place, node) if node else None
    if here is not None and node is not None and node.feature is not None:
        st.switch_page(session.FEATURE, query_params=here.at(node.feature))


def opened(found: Open) -> None:
    """Callback: a node was opened; the page goes there when it runs."""
