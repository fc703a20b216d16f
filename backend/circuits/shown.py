"""A kept circuit made ready to judge any part of it, as a person prunes it."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from backend.circuits.checking import check_edges, check_nodes, table_of
from backend.circuits.direct_checks import check_direct_edges
from backend.circuits.examples import again
from backend.circuits.grounds import ROWS, Grounds
from backend.circuits.judging import Judge
from backend.circuits.one_prompt import held_still, with_others
from backend.circuits.proof import judge_with_null, judged
from backend.circuits.records import Circuit, Errors, Point
from backend.circuits.shown_figures import ShownFigures
from backend.circuits.sparse_features import NAME, SPLIT, chosen
from backend.circuits.table import Table
from backend.engine import LocalEngine
from feature_store.errors import InputError

PROMPTS = 8
"""Of the half that judges: so many answer while a person waits, 200 random sets on each."""
SOURCES = 32
"""Prompts that random nodes are drawn from."""


class Shown:
    """A circuit's own prompts and baselines; what is read of them is kept."""

    def __init__(self, engine: LocalEngine, circuit: Circuit) -> None:
        self.engine = engine
        self.circuit = circuit

    def judge(self, ids: Sequence[str]) -> ShownFigures:
        """Faithfulness of these nodes beside random sets of the same make, and their shares and
        completeness with error terms counted, kept and removed, on at most PROMPTS of the prompts
        that judged the whole; and with patterns and norms held, where the whole was judged so.

        InputError for a circuit that cannot be run again.
        """
        judge, table, known = self._ready
        member = torch.zeros(len(table), dtype=torch.bool)
        member[[known[id] for id in ids if id in known]] = True
        point, figure = judge_with_null(judge, table, member)
        points: dict[Errors, Point] = {"count": point}
        for way in ("keep", "remove"):
            points[way] = judged(judge, table, member, way)
        held = judge_with_null(self._held, table, member)[1] if self.circuit.held else None
        return ShownFigures(points, figure, held)

    def check_nodes(self, ids: Sequence[str] = ()) -> dict[str, Any]:
        """As `checking.check_nodes`."""
        return check_nodes(self.engine, self.circuit, ids)

    def check_edges(self, edges: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
        """As `checking.check_edges`, in the way of the circuit's method."""
        check = check_edges if self.circuit.method == NAME else check_direct_edges
        return check(self.engine, self.circuit, edges)

    @cached_property
    def _held(self) -> Judge:
        return held_still(self._ready[0])

    @cached_property
    def _ready(self) -> tuple[Judge, Table, dict[str, int]]:
        circuit, engine = self.circuit, self.engine
        if circuit.baseline is None:
            raise InputError(f"{circuit.method} has no baseline that its nodes could go to.")
        examples = again(engine, circuit)
        first, second = examples, examples
        if len(examples) >= SPLIT:
            first, second = examples.halves()
        dictionaries = chosen(engine, circuit.dictionaries)
        seed = int(circuit.facts.get("seed", 0))
        grounds = Grounds(engine.lm, dictionaries, circuit.baseline, first, seed)
        table, known = table_of(circuit, [one.name for one in dictionaries])
        sources = first.rows(slice(0, SOURCES)).blocks(ROWS)
        table = with_others(table, [site for some in sources for site in grounds.sites(some)])
        return Judge(engine.lm, grounds, second.rows(slice(0, PROMPTS))), table, known
