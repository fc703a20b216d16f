"""Taking circuits away, and taking others' in: circuit-tracer JSON, GraphML, Python."""

from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import streamlit as st

from app import session
from app.circuits.importing import keep_graph
from app.circuits.opened import Open
from app.session import Place
from backend.circuits.graph_file_export import SAEFARI_KEY, export_circuit_tracer, export_graphml
from backend.circuits.graph_file_import import read_graph_file
from backend.circuits.records import Circuit, CircuitEdge, CircuitNode
from feature_store.circuit_graphs import CircuitSubgraph, GraphNode
from feature_store.errors import InputError
from feature_store.strict_json import dump_json

UPLOAD, REFUSED = "circuits_upload", "circuits_import_refused"
LARGEST = 50_000_000
"""Bytes of a file."""
PYTHON = """from pathlib import Path

from app.circuits.asked import CircuitRequest
from app.circuits.running import find
from backend.engine import LocalEngine
from backend.model.device import choose_placement
from feature_store.store import Store

store = Store(Path({store!r}))
engine = LocalEngine.load(
    store.harvest({harvest!r}), store.places.read_all(), choose_placement()
)
asked = CircuitRequest.from_json({request})
circuit = find(engine, asked, lambda done, total, note: None)
for node in circuit.nodes[:20]:
    print(node.id, node.effect)
"""
OPEN = """from pathlib import Path

from feature_store.circuit_graphs import SubgraphSelection
from feature_store.saved_circuits import SavedCircuits
from feature_store.store import Store

circuits = SavedCircuits(Store(Path({store!r})).catalog)
graph = circuits.read_graph(circuits.open({id!r}).graph)
part = graph.select_subgraph(SubgraphSelection(max_nodes=20))
for node in part.nodes:
    print(node.id, node.effect)
"""


def menu(found: Open, part: CircuitSubgraph, names: Mapping[str, str]) -> None:
    """What can be taken: the shown part, or all of it."""
    with st.popover("Export", type="tertiary"):
        which = st.segmented_control(
            "What",
            ["shown", "whole"],
            default="shown",
            required=True,
            key="circuits_which",
            label_visibility="collapsed",
        )
        of = part if which == "shown" else None
        button(
            "circuit-tracer JSON",
            f"circuit-{found.id}.json",
            lambda: tracer(found, circuit_of(found, of), names),
        )
        button(
            "GraphML", f"circuit-{found.id}.graphml", lambda: export_graphml(circuit_of(found, of))
        )
        st.caption("PNG and SVG: above the graph. The same as Python:")
        st.code(python(session.shown_store(), found), language="python")


def button(label: str, name: str, content: Any) -> None:
    """A file, made when it is asked for; or why it cannot be."""

    def made() -> str:
        try:
            return content()
        except InputError as error:
            return str(error)

    st.download_button(f"Download {label}", made, name, type="tertiary", on_click="ignore")


def circuit_of(found: Open, part: CircuitSubgraph | None) -> Circuit:
    """The circuit with the nodes and edges of a part, or with all."""
    seen = part.nodes if part else list(found.nodes.values())
    inside = {n.id for n in seen}
    place = {number: id for number, id in enumerate(found.graph.ids) if id in inside}
    held = found.graph.stability
    edges = [
        CircuitEdge(place[source], place[target], weight, held.get((place[source], place[target])))
        for source, target, weight in found.graph.list_edges()
        if source in place and target in place
    ]
    nodes = sorted(seen, key=lambda n: found.graph.node_number(n.id))
    return replace(found.circuit, nodes=tuple(map(plain, nodes)), edges=tuple(edges))


def plain(n: GraphNode) -> CircuitNode:
    """A node as the methods give it."""
    kind: Any = n.kind  # as it was kept
    return CircuitNode(
        n.id,
        kind,
        n.layer,
        n.position,
        n.dictionary,
        n.feature,
        n.effect,
        n.value,
        n.label,
        n.exact,
    )


def tracer(found: Open, circuit: Circuit, names: Mapping[str, str]) -> str:
    """circuit-tracer's JSON with the pins and groups of the page."""
    data = export_circuit_tracer(placed(circuit), f"saefari-{found.id}", dict(names))
    theirs = {one[SAEFARI_KEY]["id"]: one["node_id"] for one in data["nodes"]}
    marks = found.marks
    data["qParams"]["pinnedIds"] = [theirs[id] for id in marks.pins if id in theirs]
    data["qParams"]["supernodes"] = [
        [name, *(theirs[id] for id in ids if id in theirs)] for name, ids in marks.groups.items()
    ]
    return dump_json(data)


def placed(circuit: Circuit) -> Circuit:
    """With a place for a target that has none: where it is read, at the end."""
    slots = circuit.slots
    end = slots.index("end") if "end" in slots else len(slots) - 1
    nodes = [
        replace(n, position=end) if n.kind == "logit" and n.position is None else n
        for n in circuit.nodes
    ]
    return replace(circuit, nodes=tuple(nodes))


def python(store: Path, found: Open) -> str:
    """A few lines that find it again; that open it, where it came from elsewhere."""
    request = found.experiment.request
    if "method" not in request:
        return OPEN.format(store=str(store), id=found.id)
    return PYTHON.format(
        store=str(store), harvest=found.experiment.harvest, request=dump_json(request)
    )


def importer(place: Place) -> None:
    """A graph file of circuit-tracer, Neuronpedia or Saefari."""
    if not session.store().catalog.writable:
        return
    with st.popover("Import", type="tertiary"):
        st.caption("A graph file of circuit-tracer, Neuronpedia or Saefari (JSON).")
        st.file_uploader(
            "Graph",
            type=["json"],
            key=UPLOAD,
            label_visibility="collapsed",
            on_change=take,
            args=(place,),
        )
    if sentence := st.session_state.pop(REFUSED, None):
        st.markdown(f":red[{session.literal(sentence)}]")


def take(place: Place) -> None:
    """Callback: keep the uploaded graph and open it; or say what is wrong, and keep nothing."""
    given = st.session_state[UPLOAD]
    if given is None:
        return
    try:
        if given.size > LARGEST:
            raise InputError(
                f"it is larger than {LARGEST // 10**6} MB. The command reads files of any size: "
                "saefari import FILE."
            )
        st.query_params["experiment"] = imported(place, given.name, given.getvalue())
    except InputError as error:
        st.session_state[REFUSED] = f"{given.name} was not imported: {error}"


def imported(place: Place, name: str, content: bytes) -> str:
    """The id that a graph file is kept under. InputError for what is none."""
    found = read_graph_file(lambda: BytesIO(content))
    return keep_graph(session.store(), place.file.record.id, name, found)
