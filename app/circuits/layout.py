"""Where a circuit's nodes stand: tokens along x, layers up y, a cell's nodes beside each other."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from feature_store.circuit_graphs import GraphNode

UNREAD = re.compile(r"blocks\.(\d+)\.hook_mlp_out")
PITCH = 26.0
"""Between nodes of a cell, as all lengths in the graph's own units (pixels at zoom 1)."""
GAP_X, GAP_Y = 24.0, 22.0
"""Between cells."""
WIDEST, ALONE = 6, 24
"""Nodes beside each other in a cell; in the only cell of a row."""
SITES = (("attn", "hook_z", "head"), ("mlp",), ("resid",))
"""Within a layer from below: what is written first."""
REST = ("rest", "end")
"""The first slots of prompts that are laid out by places of a template."""

HEADS = "heads "
"""Those of a layer, which stand in one line where they have no position."""

Row = tuple[int, int, str]
"""Layer, place within it, name."""


@dataclass(frozen=True)
class Layout:
    """Places of nodes, and what rows and columns are called."""

    place: Mapping[str, tuple[float, float]]
    rows: list[tuple[float, str]]
    """y and name."""
    columns: list[tuple[float, str]]
    """x and name."""


def lay(
    nodes: Sequence[GraphNode], slots: Sequence[str], site: Callable[[str], str] = lambda name: name
) -> Layout:
    """The same nodes stand in the same places.

    `slots`: what positions are called; `site`: where a dictionary writes, as its hook point.
    """
    positions = sorted(
        {n.position for n in nodes if n.position is not None}, key=lambda p: along_x(p, slots)
    )
    cells: dict[tuple[Row, int | None], list[str]] = {}
    for node in sorted(nodes, key=head_number):
        column = node.position
        if column is None and node.kind == "logit" and positions:
            column = positions[-1]
        cells.setdefault((row_of(node, site), column), []).append(node.id)
    columns = sorted({c for _, c in cells}, key=lambda c: along_x(c, slots))
    rows = sorted({row for row, _ in cells})
    most = ALONE if len(columns) == 1 else WIDEST
    across = {
        (r, c): len(ids) if c is None and r[2].startswith(HEADS) else width(len(ids), most)
        for (r, c), ids in cells.items()
    }
    wide = {c: max(n for (_, at), n in across.items() if at == c) for c in columns}
    high = {
        r: max(math.ceil(len(ids) / across[at, c]) for (at, c), ids in cells.items() if at == r)
        for r in rows
    }
    x = along(columns, wide, GAP_X)
    y = along(rows, high, GAP_Y)
    place = {
        one: (x[c] + (i % n - (n - 1) / 2) * PITCH, -y[r] - (i // n - (high[r] - 1) / 2) * PITCH)
        for (r, c), ids in cells.items()
        for n in [across[r, c]]
        for i, one in enumerate(ids)
    }
    names = [(x[c], "all positions" if c is None else slot(slots, c)) for c in columns]
    return Layout(place, [(-y[r], r[2]) for r in rows], names)


def head_number(node: GraphNode) -> int:
    """Heads of a layer stand in their order, not by their worth; all else stays as it is given."""
    return node.feature or 0 if node.kind == "head" and node.position is None else 0


def along_x(column: int | None, slots: Sequence[str]) -> tuple[int, int]:
    """Places of a template stand in its order, but its end stands last."""
    if column is None:
        return (0, -1)
    return (1 if tuple(slots[:2]) == REST and column == 1 else 0, column)


def row_of(node: GraphNode, site: Callable[[str], str]) -> Row:
    """Tokens lowest, logits highest; within a layer attention, MLP, stream."""
    if node.kind in ("token", "logit"):
        return (node.layer, 0, f"{node.kind}s")
    if node.kind == "head":
        return (node.layer, 0, f"{HEADS}{node.layer}")
    hook = site(node.dictionary)
    found = [i for i, words in enumerate(SITES) if any(word in hook for word in words)]
    return (node.layer, found[0] if found else len(SITES), whole(node.dictionary))


def whole(name: str) -> str:
    """A dictionary's name; an MLP that no dictionary stands for goes by its hook point, and is
    called so."""
    found = UNREAD.fullmatch(name)
    return f"MLP {found[1]}" if found else name


def width(n: int, most: int) -> int:
    """Nodes beside each other in a cell of n."""
    return n if n <= 2 else min(most, math.ceil(math.sqrt(2 * n)))


def along(keys: Sequence, sizes: Mapping, gap: float) -> dict:
    """Middles of cells that stand one behind another."""
    found, at = {}, 0.0
    for key in keys:
        size = sizes[key] * PITCH
        found[key] = at + size / 2
        at += size + gap
    return found


def slot(slots: Sequence[str], position: int) -> str:
    """A position's name; its number where it has none."""
    text = slots[position] if position < len(slots) else str(position)
    return text.replace("\n", "↵").replace("\t", "⇥") or str(position)
