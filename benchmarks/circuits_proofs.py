"""Attribution graphs run by ablation: the table in docs/circuits-methods.md beside a null.

Writes a line of JSON for each set of prompts, in minutes.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.attribution.target_metric import tokenize_single_token_answer
from backend.circuits.attribution_graph_circuit import find_attribution_circuit
from backend.circuits.complement_ablation import ComplementAblation
from backend.circuits.faithfulness import estimate_faithfulness
from backend.circuits.node_and_edge_checks import build_circuit_node_table
from backend.circuits.node_baselines import NodeBaselines
from backend.circuits.single_prompt_faithfulness import (
    append_other_active_nodes,
    build_single_prompt,
    freeze_complement_ablation,
    select_logit_targets,
)
from backend.circuits.task_prompt_pairs import sample_prompt_pairs
from backend.demo import WEIGHTS
from backend.demo.activations import load_demo_model
from backend.dictionaries import load
from backend.dictionaries.base import Dictionary
from backend.engine import LocalEngine
from backend.engine_protocol import TokenizedText
from backend.model.device import choose_placement
from backend.model.language_model import LanguageModel
from benchmarks.circuits_methods import given, tell

TASKS = ("indirect_object", "greater_than", "pronoun", "induction")
PROMPTS, DRAWS = 20, 200
BEGINNING = 24
"""Tokens of a story."""
Asked = tuple[TokenizedText, tuple[int, ...], tuple[int, ...]]
"""A prompt, its answer and the wrong one; none for the likeliest tokens."""


def proofs(
    lm: LanguageModel, dictionaries: Sequence[Dictionary], prompts: Sequence[Asked]
) -> dict[str, Any]:
    """Every prompt's graph and its null, patterns and norms left free and held."""
    engine = LocalEngine(lm, {one.name: one for one in dictionaries}, bos=lm.bos)
    rows: dict[str, list[list[float]]] = {"free": [], "held": []}
    sizes: list[int] = []
    for text, answers, against in prompts:
        circuit = find_attribution_circuit(lm, dictionaries, text, answers=answers, against=against)
        some = build_single_prompt(
            engine, text, select_logit_targets(engine, text, answers, against)
        )
        free = ComplementAblation(lm, NodeBaselines(lm, dictionaries, "zero", some), some)
        kept, _ = build_circuit_node_table(circuit, [one.name for one in dictionaries])
        table, size = (
            append_other_active_nodes(kept, free.baselines.read_dictionaries(some)),
            len(kept),
        )
        sets = torch.cat(
            [table.strongest_sets([0, size]), table.random_sets(torch.arange(size), DRAWS, 0)]
        )
        for way, ablation in (("free", free), ("held", freeze_complement_ablation(free))):
            others = [ablation.run(table, sets[1:2], errors)[0, 0] for errors in ("keep", "remove")]
            rows[way].append([ablation.clean[0], *others, *ablation.run(table, sets)[:, 0]])
        sizes.append(size)
    told = {way: pooled(np.array(found)) for way, found in rows.items()}
    return {"prompts": len(prompts), "nodes": float(np.median(sizes)), **told}


def pooled(found: np.ndarray) -> dict[str, Any]:
    """Ratios of means over prompts. A row: the target on the whole model, with the graph's nodes
    and errors kept, and removed, without nodes, with the graph's nodes, with each random set."""
    clean, empty, own = found[:, 0], found[:, 3], found[:, 4]

    def ratio(values: np.ndarray) -> np.ndarray:
        return (values.mean(0) - empty.mean()) / (clean.mean() - empty.mean())

    null, off = ratio(found[:, 5:]), abs(found[:, 4:] - clean[:, None])
    nearer = (off[:, 1:] > off[:, :1]).mean(1)
    return {
        "faithfulness": asdict(estimate_faithfulness(own, empty, clean)),
        "kept": ratio(found[:, 1]),
        "removed": ratio(found[:, 2]),
        "null_median": np.median(null),
        "null_95": np.quantile(null, 0.95),
        "nearer_median": np.median(nearer),
        "nearer_than_95_percent": int((nearer > 0.95).sum()),
    }


def asked(lm: LanguageModel, task: str) -> list[Asked]:
    """Held-out prompts of a task of the demo."""
    found = []
    for one in sample_prompt_pairs(task, "held_out", PROMPTS, seed=5):
        ids = [
            tokenize_single_token_answer(lm.tokenizer, one.clean, word)
            for word in (one.answer, one.wrong)
        ]
        prompt = lm.tokenizer(one.clean, add_special_tokens=False)["input_ids"]
        found.append((behind_bos(lm, prompt), (ids[0],), (ids[1],)))
    return found


def beginnings(lm: LanguageModel, folder: Path) -> list[Asked]:
    """Of held-out stories."""
    lines = next((folder / "text").glob("*alid*")).read_text("utf-8").splitlines()[:PROMPTS]
    stories = [json.loads(line)["text"] for line in lines]
    ids = [lm.tokenizer(one, add_special_tokens=False)["input_ids"][:BEGINNING] for one in stories]
    return [(behind_bos(lm, one), (), ()) for one in ids]


def behind_bos(lm: LanguageModel, ids: list[int]) -> TokenizedText:
    """BOS in front, as the dictionaries were trained."""
    return TokenizedText([int(lm.bos or 0), *ids], [False, *[True] * len(ids)])


def main() -> None:
    """Measure and write."""
    folder = given(__doc__)
    torch.set_num_threads(1)
    place = choose_placement("cpu", "float32")
    lm = load_demo_model()
    mlps = [load(str(WEIGHTS / f"mlp-{n}"), name=f"mlp-{n}", placement=place) for n in range(4)]
    for task in TASKS:
        tell(task, proofs(lm, mlps, asked(lm, task)))
    if folder:
        lm = LanguageModel.load(str(folder / "stories3m"), place)
        six = [
            load(str(folder / f"transcoder-stories3m-mlp{n}"), name=f"mlp{n}", placement=place)
            for n in range(lm.n_layers)
        ]
        tell("stories3m", proofs(lm, six, beginnings(lm, folder)))


if __name__ == "__main__":
    main()
