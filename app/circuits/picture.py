"""What the graph's component is given: plain data out of a part of a circuit."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from app import theme
from app.circuits.layout import Layout, slot, whole
from app.components import graph
from app.wording import count, measure, plural, share, signed
from feature_store.circuit_graphs import GROUP_PREFIX, NEVER_ABLATED, CircuitSubgraph, GraphNode
from feature_store.strict_json import dump_json

SMALLEST, LARGEST = 7.0, 24.0
"""Diameters; the area grows with |effect|."""
UNKNOWN = 12.0
NAME, TARGET = 14, 28
"""Characters of a name under a node, and of a target's, which has room beside it."""


def data(
    part: CircuitSubgraph,
    layout: Layout,
    names: Mapping[str, str],
    *,
    circuit: str,
    slots: Sequence[str],
    pins: Sequence[str],
    selected: Sequence[str],
    marked: Sequence[str],
    dark: bool,
    said: str,
) -> dict[str, Any]:
    """`names`: id → a feature's label, or what it promotes."""
    known = [
        abs(n.effect) for n in part.nodes if n.effect is not None and n.kind not in NEVER_ABLATED
    ]
    largest = max(known, default=0.0)
    shown = [
        node(n, layout.place[n.id], names.get(n.id, ""), largest, slots, n.id in pins)
        for n in part.nodes
        if not n.group
    ]
    shown += [grouped(name, ids, layout) for name, ids in groups(part).items()]
    place = {one["id"]: i for i, one in enumerate(shown)}
    whole = {
        "circuit": circuit,
        "nodes": shown,
        "edges": {
            "source": [place[source] for source, _, _ in part.edges],
            "target": [place[target] for _, target, _ in part.edges],
            "weight": [weight for _, _, weight in part.edges],
        },
        "rows": [{"y": y, "text": text} for y, text in layout.rows],
        "columns": [{"x": x, "text": text} for x, text in layout.columns],
    }
    key = hashlib.sha256(dump_json(whole, sort_keys=True).encode()).hexdigest()[:16]
    return whole | {
        "key": key,
        "library": f".{graph.PATH}",
        "palette": palette(dark),
        "said": said,
        "selected": list(selected),
        "marked": list(marked),
        "file": f"circuit-{circuit}",
    }


def node(
    n: GraphNode,
    at: tuple[float, float],
    name: str,
    largest: float,
    slots: Sequence[str],
    pinned: bool,
) -> dict[str, Any]:
    """One node; its words are shown on hover and to readers of screens."""
    title = named(n)
    where = "" if n.position is None else f"position {n.position} “{slot(slots, n.position)}”"
    lines = [
        name,
        f"effect {signed(n.effect, 3)}" if n.effect is not None else "",
        worth(n),
        where,
        "" if n.in_circuit else "left out by the pruning",
    ]
    return {
        "id": n.id,
        "kind": n.kind,
        "x": at[0],
        "y": at[1],
        "size": size(n.effect, largest),
        "sign": -1 if (n.effect or 0) < 0 else 1,
        "inside": n.in_circuit,
        "pinned": pinned,
        "name": cut(brief(n, name), TARGET if n.kind == "logit" else NAME),
        "title": title,
        "lines": [line for line in lines if line],
    }


def grouped(name: str, members: Sequence[GraphNode], layout: Layout) -> dict[str, Any]:
    """A group, in the middle of its nodes. Effects of different layers are cuts of one stream, so
    they are not summed."""
    x, y = (sum(layout.place[n.id][i] for n in members) / len(members) for i in (0, 1))
    strongest = max(members, key=lambda n: abs(n.effect or 0))
    effect = signed(strongest.effect or 0, 3)
    lines = [plural(len(members), "node"), f"strongest: {named(strongest)}, effect {effect}"]
    return {
        "id": GROUP_PREFIX + name,
        "kind": "group",
        "x": x,
        "y": y,
        "size": LARGEST,
        "sign": -1 if (strongest.effect or 0) < 0 else 1,
        "inside": True,
        "pinned": False,
        "name": cut(name),
        "title": name,
        "lines": lines,
    }


def groups(part: CircuitSubgraph) -> dict[str, list[GraphNode]]:
    """The groups of which something is shown."""
    found: dict[str, list[GraphNode]] = {}
    for one in part.nodes:
        if one.group:
            found.setdefault(one.group, []).append(one)
    return found


def named(n: GraphNode) -> str:
    """A node in words."""
    if n.kind == "feature":
        return f"{n.dictionary}/{n.feature}"
    if n.kind == "error":
        name = whole(n.dictionary)
        return f"error of {name}" if name == n.dictionary else f"{name}, no dictionary"
    if n.kind == "head":
        return n.label or f"head {n.layer}.{n.feature}"
    return f"{n.kind} “{n.label}”"


def brief(n: GraphNode, name: str) -> str:
    """What stands under it."""
    if n.kind == "feature":
        return name or str(n.feature)
    return {"error": "", "head": f"{n.layer}.{n.feature}"}.get(n.kind, n.label)


def worth(n: GraphNode) -> str:
    """Its value, with what it is."""
    if n.value is None:
        return ""
    if n.kind == "head" and n.position is None:
        return f"a code of its own on {share(n.value)} of the positives"
    if n.kind == "head" and "<" in n.id:
        return f"attention {measure(n.value)}"
    means = {"feature": "activation", "error": "norm", "logit": "probability"}.get(n.kind, "value")
    return f"{means} {measure(n.value)}"


def cut(text: str, most: int = NAME) -> str:
    """A name that fits."""
    line = " ".join(text.split()) or text
    return line if len(line) <= most else f"{line[: most - 1]}…"


def size(effect: float | None, largest: float) -> float:
    """A diameter whose square grows with |effect|."""
    if effect is None or not largest:
        return UNKNOWN
    return round(SMALLEST + (LARGEST - SMALLEST) * math.sqrt(min(1.0, abs(effect) / largest)), 1)


def palette(dark: bool) -> dict[str, str]:
    """Colours. Nodes take the heat of the other theme: there it stands out as a shape."""
    here, other = (
        theme.palette("dark" if dark else "light"),
        theme.palette("light" if dark else "dark"),
    )
    return {
        "background": here.background,
        "raised": here.raised,
        "text": here.text,
        "muted": here.muted,
        "accent": here.accent,
        "positive": other.positive,
        "negative": other.negative,
    }


def sentence(part: CircuitSubgraph, nodes: int, edges: int) -> str:
    """What of the circuit is shown."""
    errors = sum(n.kind == "error" for n in part.ablatable_nodes)
    return (
        f"{count(len(part.ablatable_nodes))} of {plural(nodes, 'node')}"
        + (f", {plural(errors, 'error term')} among them" if errors else "")
        + f" · {count(len(part.edges))} of {plural(edges, 'edge')}"
    )
