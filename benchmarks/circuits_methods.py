"""Figures of docs/circuits-methods.md: attribution graphs, traces, paths, and heads by codes.

Writes a line of JSON for each part, in minutes.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.ablation.padded_prompts import PaddedPrompts
from backend.attribution.target_metric import TargetMetric, tokenize_single_token_answer
from backend.circuits.attribution_graph import AttributionGraph, build_attribution_graph
from backend.circuits.attribution_graph_circuit import (
    convert_graph_to_circuit,
    find_attribution_circuit,
)
from backend.circuits.head_codes import HeadCodes, fit_head_codes
from backend.circuits.logit_targets import build_logit_target
from backend.circuits.patch_free_tracing import LogitStart, trace_to_sources
from backend.circuits.records import Circuit
from backend.circuits.task_counterexamples import (
    COUNTEREXAMPLE_TASKS,
    CounterexamplePair,
    sample_counterexample_pairs,
)
from backend.circuits.task_prompt_pairs import sample_prompt_pairs
from backend.circuits.weight_connections import find_weight_connections
from backend.circuits.weight_paths_circuit import build_weight_paths_circuit
from backend.demo import WEIGHTS
from backend.demo.activations import load_demo_model
from backend.dictionaries import load
from backend.dictionaries.base import Dictionary
from backend.engine_protocol import TokenizedText
from backend.interventions.edit_plan import compile_edits
from backend.interventions.edited_logits import compute_edited_logits
from backend.interventions.records import Edit, EditCondition, FrozenLayers
from backend.model.device import choose_placement
from backend.model.language_model import LanguageModel
from benchmarks.head_effects import HeadEffects, auc, head_effects, shuffled_auc
from feature_store.records import FeatureId

GRAPHS = 5
EDGES = 20
EXAMPLES, TRUTH, SEEDS = 10, 400, 10
LEAST_HEADS = 3
"""That matter, for a ranking to be judged."""
GRAPHED = ("indirect_object", "greater_than", "pronoun")


def text_of(lm: LanguageModel, prompt: str) -> TokenizedText:
    """BOS in front, as the demo's dictionaries were trained."""
    ids = lm.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return TokenizedText([int(lm.bos or 0), *ids], [False, *[True] * len(ids)])


Draw = Callable[[int, int], Iterable[CounterexamplePair]]
"""So many of a seed."""


def heads(lm: LanguageModel, draw: Draw) -> dict[str, Any]:
    """AUC of codes over seeds against mean ablation, at all tokens and at the last one."""
    known = list(draw(TRUTH, 1))
    prompts = PaddedPrompts.of([text_of(lm, case.text) for case in known])
    answers = [
        [tokenize_single_token_answer(lm.tokenizer, case.text, case.answer)] for case in known
    ]
    wrong = [[tokenize_single_token_answer(lm.tokenizer, case.text, case.wrong)] for case in known]
    target = TargetMetric(answers, wrong, prompts.last)
    truths = {
        "at_all_tokens": head_effects(lm, prompts, target),
        "at_last_token": head_effects(lm, prompts, target, at_last=True),
    }
    coded, seconds = [], []
    for seed in range(SEEDS):
        drawn = list(draw(EXAMPLES, 100 + seed))
        texts = [[text_of(lm, t) for t in kind] for kind in zip(*_both(drawn), strict=True)]
        began = time.perf_counter()
        coded.append(fit_head_codes(lm, *texts, seed=seed))
        seconds.append(time.perf_counter() - began)
    judged = {where: _judged(coded, measured) for where, measured in truths.items()}
    return {**judged, "seconds": statistics.median(seconds)}


def _judged(coded: Sequence[HeadCodes], measured: HeadEffects) -> dict[str, Any]:
    """Rankings against one truth; without figures where fewer than LEAST_HEADS matter."""
    truth = measured.truth
    matter = {
        "heads_that_matter": [f"{a}.{b}" for a, b in np.argwhere(truth).tolist()],
        "logit_difference": float(measured.clean.mean()),
    }
    if truth.sum() < LEAST_HEADS:
        return matter
    found = [auc(one.score, truth) or 0.0 for one in coded]
    chance = [np.nanpercentile(shuffled_auc(one.score, truth), 95) for one in coded]
    return {
        **matter,
        "auc_mean": float(np.mean(found)),
        "auc_min": float(np.min(found)),
        "auc_size_alone": float(np.mean([auc(one.strength, truth) or 0.0 for one in coded])),
        "auc_attribution_patching": auc(np.abs(measured.estimated.mean(0)), truth),
        "auc_shuffled_95": float(np.mean(chance)),
    }


def _both(drawn: Sequence[CounterexamplePair]) -> Iterator[tuple[str, str]]:
    return ((case.text, case.without) for case in drawn)


NAMED = (
    "One day, {A} and {B} went to the park. {S} said to",
    "Once upon a time, {A} and {B} were friends. {S} gave the ball to",
    "{A} and {B} like to play. {S} wants to share the toy with",
    "{A} and {B} saw a big dog. {S} ran away with",
)
PEOPLE = ("Lily", "Timmy", "Tom", "Max", "Tim", "Ben", "Jack", "Sam", "Lucy")
PEOPLE += ("John", "Anna", "Sue", "Bob", "Jane", "Mia", "Amy", "Sara", "Emma")


def companions(n: int, seed: int) -> Iterator[CounterexamplePair]:
    """Who is with somebody, as children's stories tell it; without: somebody who was not named."""
    rng = random.Random(seed)
    for _ in range(n):
        a, b, stranger = rng.sample(PEOPLE, 3)
        template = rng.choice(NAMED)
        shown, without = (template.format(A=a, B=b, S=subject) for subject in (b, stranger))
        yield CounterexamplePair(shown, without, f" {a}", f" {b}")


def graphs(
    lm: LanguageModel, dictionaries: Sequence[Dictionary], prompts: Sequence[tuple[str, str, str]]
) -> dict[str, Any]:
    """Medians over prompts of (text, answer, wrong)."""
    found: list[Circuit] = []
    seconds: list[float] = []
    errors: list[float] = []
    for prompt, answer, wrong in prompts:
        text = text_of(lm, prompt)
        ids = [
            tokenize_single_token_answer(lm.tokenizer, prompt, word)
            for word in (answer, wrong)
            if word
        ]
        began = time.perf_counter()
        if ids:
            graph = build_attribution_graph(
                lm,
                dictionaries,
                text,
                lambda logits, ids=ids: build_logit_target(lm, logits, ids[:1], ids[1:]),
            )
            found.append(convert_graph_to_circuit(graph, text))
            seconds.append(time.perf_counter() - began)
            errors += edge_errors(lm, dictionaries, text, graph)
        else:
            found.append(find_attribution_circuit(lm, dictionaries, text))
            seconds.append(time.perf_counter() - began)
    return {
        "prompts": len(prompts),
        "tokens": statistics.median(len(one.slots) for one in found),
        "seconds": statistics.median(seconds),
        **{
            key: statistics.median(one.facts[key] for one in found)
            for key in (
                "active_features",
                "traced_features",
                "replacement_score",
                "completeness_score",
            )
        },
        "nodes": statistics.median(len(one.nodes) for one in found),
        "edges": statistics.median(len(one.edges) for one in found),
        "checked_edges": len(errors),
        "edge_error_median": statistics.median(errors) if errors else None,
        "edge_error_largest": max(errors) if errors else None,
    }


def edge_errors(
    lm: LanguageModel,
    dictionaries: Sequence[Dictionary],
    text: TokenizedText,
    graph: AttributionGraph,
) -> list[float]:
    """Relative errors of the strongest edges into the first logit: the source set to zero with
    patterns, norms and later MLPs frozen, against the edge."""
    by_name = {one.name: one for one in dictionaries}
    row = graph.effects[int(np.flatnonzero(graph.kinds.logit)[0])]
    strongest = [i for i in np.argsort(-np.abs(row)) if graph.kinds.feature[i]][:EDGES]
    direction = graph.logit_targets[0].direction
    found = []
    for column in strongest:
        place = graph.sources[column]
        site = graph.replacement.sites[place.site]
        feature = FeatureId(site.name, int(place.feature or 0))
        edit = Edit("clamp", (feature,), 0.0, where=EditCondition(positions=(place.position,)))
        top = lm.n_layers - 1
        later = (site.layer + 1, top) if site.layer < top else None
        plan = compile_edits(
            lm,
            by_name,
            [[edit]],
            freeze=FrozenLayers(patterns=(0, top), norms=(0, top), mlps=later),
        )
        seen = compute_edited_logits(plan, [text.token_ids])
        assert seen.clean is not None
        # An unembedding direction of any target is a combination of logits.
        moved = (seen.clean - seen.logits)[0, -1].double()
        change = float(moved @ _mix(lm, direction))
        found.append(abs(change - row[column]) / max(abs(float(row[column])), 1e-12))
    return found


def _mix(lm: LanguageModel, direction: torch.Tensor) -> torch.Tensor:
    """The combination of logits whose direction this is: least squares over the vocabulary."""
    module: Any = lm.bare.get_output_embeddings()
    W = module.weight.detach().double()
    return torch.linalg.lstsq(W.T, direction.double()[:, None]).solution[:, 0]


def others(
    lm: LanguageModel, dictionaries: Sequence[Dictionary], prompts: Sequence[tuple[str, str, str]]
):
    """Traces and paths: time, and what error terms hold of the start."""
    traced, walked, errors, biases = [], [], [], []
    for prompt, answer, wrong in prompts:
        text = text_of(lm, prompt)
        ids = [tokenize_single_token_answer(lm.tokenizer, prompt, word) for word in (answer, wrong)]
        start = LogitStart((ids[0],), (ids[1],))
        began = time.perf_counter()
        one = trace_to_sources(lm, dictionaries, text, start)
        traced.append(time.perf_counter() - began)
        (whole,), (bias,) = one.facts["start"], one.facts["bias"]
        errors.append(abs(one.facts["from_errors"][0]) / abs(whole))
        biases.append(abs(bias) / abs(whole))
        began = time.perf_counter()
        build_weight_paths_circuit(lm, dictionaries, text, start)
        walked.append(time.perf_counter() - began)
    return {
        "prompts": len(prompts),
        "trace_seconds": statistics.median(traced),
        "paths_seconds": statistics.median(walked),
        "errors_of_start": statistics.median(errors),
        "bias_of_start": statistics.median(biases),
    }


def all_pairs(lm: LanguageModel, dictionaries: Sequence[Dictionary]) -> dict[str, float]:
    """Seconds for the strongest connections of every pair of layers."""
    began, n = time.perf_counter(), 0
    for i, source in enumerate(dictionaries):
        for target in dictionaries[i + 1 :]:
            find_weight_connections(lm, source, target, k=100)
            n += 1
    return {"pairs": n, "seconds": time.perf_counter() - began}


def asked(task: str, n: int) -> list[tuple[str, str, str]]:
    """Prompts of the demo's tasks with their answers."""
    return [
        (pair.clean, pair.answer, pair.wrong)
        for pair in sample_prompt_pairs(task, "held_out", n, seed=5)
    ]


def real_figures(folder: Path) -> dict[str, Any]:
    """stories3m with its six transcoders, on the beginnings of held-out stories."""
    place = choose_placement("cpu", "float32")
    lm = LanguageModel.load(str(folder / "stories3m"), place)
    found = [
        load(str(folder / f"transcoder-stories3m-mlp{layer}"), name=f"mlp{layer}", placement=place)
        for layer in range(lm.n_layers)
    ]
    prompts = []
    path = next((folder / "text").glob("*alid*"))
    for line in path.read_text("utf-8").splitlines()[:GRAPHS]:
        ids = lm.tokenizer(json.loads(line)["text"], add_special_tokens=False)["input_ids"][:24]
        prompts.append((str(lm.tokenizer.decode(ids)), "", ""))
    return {
        "heads": heads(lm, companions),
        "graphs": graphs(lm, found, prompts),
        "connections": all_pairs(lm, found),
    }


def main() -> None:
    """Measure and write."""
    folder = given(__doc__)
    torch.set_num_threads(1)
    lm, place = load_demo_model(), choose_placement("cpu", "float32")
    mlps, heads_ = (
        [load(str(WEIGHTS / f"{kind}-{n}"), name=f"{kind}-{n}", placement=place) for n in range(4)]
        for kind in ("mlp", "attn")
    )
    for task in COUNTEREXAMPLE_TASKS:
        tell(f"heads of {task}", heads(lm, partial(sample_counterexample_pairs, task, "held_out")))
    tell("connections", all_pairs(lm, mlps))
    tell("traces and paths", others(lm, [*heads_, *mlps], asked("indirect_object", GRAPHS)))
    for task in GRAPHED:
        tell(f"graphs of {task}", graphs(lm, mlps, asked(task, GRAPHS)))
    if folder:
        tell("stories3m", real_figures(folder))


def given(description: str | None) -> Path | None:
    """The folder of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="FOLDER",
        help="one like that of SAEFARI_TEST_DATA; without it only the demo is measured",
    )
    return parser.parse_args().folder


def tell(name: str, found: dict[str, Any]) -> None:
    """A line of JSON."""
    print(json.dumps({name: found}, default=float), flush=True)


if __name__ == "__main__":
    main()
