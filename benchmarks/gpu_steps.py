"""The steps of `benchmarks.gpu_check`: each compares a device with the CPU, or measures it.

A step returns its figures; `wrong` among them lists, in words, what is not as it must be.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from backend.ablation.ablation_requests import AblationRequest, PromptCase
from backend.ablation.model_parts import ModelPart
from backend.ablation.prompt_ablation import ablate_prompts
from backend.circuits.circuit_prompts import lay_out_circuit_prompts
from backend.circuits.patch_free_tracing import (
    LogitStart,
    select_cut_dictionaries,
    trace_to_sources,
)
from backend.circuits.sparse_feature_circuit import (
    SparseFeatureSettings,
    find_sparse_feature_circuit,
)
from backend.features.logit_lens import compute_logit_lens
from backend.generation.generation_run import generate_texts
from backend.generation.prompt_tokenization import tokenize_text
from backend.generation.records import GenerationRow, SamplingSettings, TokenRecord
from backend.generation.steering_request import SteeringRequest
from backend.generation.token_stream import StreamOptions, stream_tokens
from backend.harvest.checkpoint import Shard
from backend.harvest.run import HarvestRun
from backend.harvest.weight_facts import find_neighbours_tile
from backend.interventions.records import Edit
from benchmarks.gpu_bench import (
    CPU,
    PROMPTS,
    Bench,
    Figures,
    NotHere,
    busy_feature,
    compare_triples,
    correlation,
    count_waits,
    dense,
    finished,
    random_topk,
    relative,
    request,
    seconds,
    wanted,
)
from feature_store.errors import InputError
from feature_store.harvest_reader import connect_read_only

MODES = {"add": 4.0, "multiply": 3.0, "zero": 1.0, "clamp": 2.0}
"""Modes that need nothing but a strength."""


def load_model(bench: Bench) -> Figures:
    """The model on the device: full float32, the same logits, and how many hooks are fast."""
    precision = torch.get_float32_matmul_precision()
    tokens = bench.rows(4, min(64, bench.on_cpu_model.n_ctx))
    there, here = bench.on_device.lm, bench.on_cpu_model
    difference = relative(there.logits(tokens), here.logits(tokens))
    fast = [name for name in there.hook_names() if there.has_fast_forward(name)]
    wrong = wanted(precision == "highest", f"matmul precision is {precision}, not highest")
    wrong += wanted(difference < 1e-4, f"logits differ by {difference:.1e}")
    if bench.device.type == "cuda":
        wrong += wanted(not torch.backends.cuda.matmul.allow_tf32, "TF32 is on")
    return {
        "placement": str(there.placement.device),
        "logits_differ": difference,
        "fast_hooks": len(fast),
        "hooks": len(there.hook_names()),
        "wrong": wrong,
    }


def encode(bench: Bench) -> Figures:
    """Every dictionary's non-zero activations on the device and on the CPU."""
    tokens = bench.rows(8, min(64, bench.on_cpu_model.n_ctx))
    figures: Figures = {"wrong": []}
    for name, one in bench.on_cpu.dictionaries.items():
        x = bench.on_cpu_model.activations(tokens, [one.hook_name])[one.hook_name]
        x = x if one.needs_sequence else x[:, 1:].flatten(0, 1)
        theirs = bench.on_device.dictionaries[name].encode_sparse(x)
        figures[name] = compared = compare_triples(one.encode_sparse(x), theirs, one.d_sae)
        figures["wrong"] += wanted(
            compared["support_differs"] <= 1e-4 and compared["values_differ"] < 1e-4,
            f"{name} encodes otherwise",
        )
    return figures


def harvest(bench: Bench) -> Figures:
    """A whole harvest on both; the same features fire as often, in the same contexts."""
    for road, placement in (("cpu", CPU), ("device", bench.placement)):
        bench.harvests[road] = finished(request(bench, road, placement))
    with (
        connect_read_only(bench.harvests["device"]) as there,
        connect_read_only(bench.harvests["cpu"]) as here,
    ):
        counts = "SELECT dictionary, feature, n_active FROM feature ORDER BY ALL"
        one, other = (db.sql(counts).fetchall() for db in (there, here))
        contexts = "SELECT dictionary, feature, stratum, sequence, peak FROM context"
        ours, theirs = (set(db.sql(contexts).fetchall()) for db in (there, here))
    differ = sum(a != b for a, b in zip(one, other, strict=True)) / len(one)
    shared = len(ours & theirs) / max(1, len(theirs))
    wrong = wanted(differ <= 1e-3, f"{differ:.2%} of features fire otherwise")
    wrong += wanted(shared >= 0.999, f"only {shared:.2%} of contexts are the same")
    return {
        "features": len(one),
        "features_differ": differ,
        "contexts_shared": shared,
        "wrong": wrong,
    }


def resume(bench: Bench) -> Figures:
    """A harvest that was let go half-way, and one in two shards, against the unbroken one."""
    whole = bench.harvests.get("device") or finished(request(bench, "device", bench.placement))
    half = HarvestRun(request(bench, "resumed", bench.placement))
    steps = half.run()
    for step in steps:
        if step.stage == "harvest" and step.done >= step.total // 2:
            break
    steps.close()  # type: ignore[attr-defined]
    resumed = finished(request(bench, "resumed", bench.placement))
    shards = [request(bench, "sharded", bench.placement, shard=Shard(i, 2)) for i in range(2)]
    merged = [finished(one) for one in shards][-1]
    facts = "SELECT dictionary, feature, n_active, max_act FROM feature ORDER BY ALL"
    rows = []
    for path in (whole, resumed, merged):
        with connect_read_only(path) as db:
            rows.append(db.sql(facts).fetchall())
    wrong = wanted(rows[0] == rows[1], "a resumed harvest differs from the unbroken one")
    wrong += wanted(rows[0] == rows[2], "two shards differ from the unbroken harvest")
    return {"features": len(rows[0]), "wrong": wrong}


def steer_and_ablate(bench: Bench) -> Figures:
    """Greedy texts under every simple mode, an ablation and a removal, on both."""
    n = 8 if bench.tiny else 64
    told = []
    for engine in (bench.on_device, bench.on_cpu):
        edits = [Edit(mode, (busy_feature(bench),), strength) for mode, strength in MODES.items()]
        rows = [GenerationRow("clean"), *(GenerationRow(edit.mode, (edit,)) for edit in edits)]
        start = tokenize_text(engine.lm, PROMPTS[0], bos=engine.bos is not None)
        sampling = SamplingSettings(
            max_new=min(n, engine.lm.n_ctx - len(start.tokens)), temperature=0
        )
        made = stream_tokens(engine.lm, engine.dictionaries, start, rows, sampling, StreamOptions())
        tokens = [one for one in made if isinstance(one, TokenRecord)]
        parts = (ModelPart("feature", busy_feature(bench).dictionary, busy_feature(bench).index),)
        ablated = ablate_prompts(engine, AblationRequest((PromptCase(PROMPTS[0]),), parts))
        told.append((tokens, float(ablated["joint"])))
    (there, effect_there), (here, effect_here) = told
    same = sum(a.id == b.id for a, b in zip(there, here, strict=False)) / max(1, len(here))
    kl = max(
        abs((a.kl or 0) - (b.kl or 0)) / max(1e-3, b.kl or 0)
        for a, b in zip(there, here, strict=False)
    )
    apart = abs(effect_there - effect_here)
    wrong = wanted(same == 1, f"{1 - same:.1%} of greedy tokens differ")
    wrong += wanted(kl < 1e-2, f"KL differs by {kl:.1e} of itself")
    wrong += wanted(apart <= 1e-4 + 1e-3 * abs(effect_here), "an ablation's effect differs")
    return {
        "tokens": len(there),
        "same": same,
        "kl_differs": kl,
        "effect": effect_there,
        "wrong": wrong,
    }


def gradients(bench: Bench) -> Figures:
    """Gradient × activation, a sparse feature circuit and a trace, on both."""
    cases, found = tuple(PromptCase(prompt) for prompt in PROMPTS), []
    for engine in (bench.on_device, bench.on_cpu):
        names = list(engine.dictionaries)
        text = engine.read(PROMPTS[0])
        at = len(text.token_ids) - 1
        target = engine.predict_next_tokens(text, at, 1)[0][0]
        toward = engine.attribute_logit(text, names, target, at)
        settings = SparseFeatureSettings(nodes=10, edges=20, paths=2, draws=0)
        circuit = find_sparse_feature_circuit(
            engine, lay_out_circuit_prompts(engine, cases), names[:1], settings
        )
        vectors = {f"toward {name}": dense(one) for name, one in toward.items()}
        vectors["circuit"] = {node.id: node.effect or 0.0 for node in circuit.nodes}
        known = list(engine.dictionaries.values())
        traced = trace_to_sources(
            engine.lm,
            select_cut_dictionaries(engine.lm, known),
            text,
            LogitStart((target,), ()),
            known=known,
        )
        vectors["trace"] = {node.id: node.effect or 0.0 for node in traced.nodes}
        found.append(vectors)
    figures: Figures = {"wrong": []}
    for name, there in found[0].items():
        figures[name] = round(correlation(there, found[1][name]), 7)
        figures["wrong"] += wanted(figures[name] >= 0.9999, f"{name} correlates {figures[name]}")
    return figures


def measure_speed(bench: Bench) -> Figures:
    """Tokens per second of forward and encode beside the bare product of matrices."""
    d, n = (64, 256) if bench.tiny else (768, 4096)
    widths = (512,) if bench.tiny else (24_576, 131_072)
    tokens = bench.rows(4 if bench.tiny else 64, min(64, bench.on_cpu_model.n_ctx))
    lm = bench.on_device.lm
    hook = (
        f"blocks.{lm.n_layers - 1}.hook_out"
        if "blocks.0.hook_out" in lm.hook_names()
        else lm.hook_names()[-1]
    )
    forward = seconds(bench, lambda: lm.activations(tokens, [hook]))
    figures: Figures = {"forward_tokens_per_s": tokens.numel() / forward, "wrong": []}
    for width in widths:
        one = random_topk(d, width, bench.device)
        x = torch.randn(n, d, device=bench.device)
        reads = one.W_enc
        assert reads is not None
        product = seconds(bench, partial(torch.matmul, x, reads))
        taken = seconds(bench, lambda: one.encode_sparse(x))  # noqa: B023
        figures[f"encode_{width}"] = {
            "tokens_per_s": n / taken,
            "share_of_product": product / taken,
            "tflops": 2 * n * d * width / taken / 1e12,
            "waits": count_waits(bench, lambda: one.encode_sparse(x)),  # noqa: B023
        }
        del one, x
        bench.free()
    if bench.device.type == "cuda":
        figures["peak_memory_bytes"] = torch.cuda.max_memory_allocated(bench.device)
    return figures


def measure_scale(bench: Bench) -> Figures:
    """Nearest decoder directions of a wide dictionary, and its lens, in the harvest's tiles."""
    width, d = (2048, 32) if bench.tiny else (131_072, 768)
    unit = torch.nn.functional.normalize(torch.randn(width, d, device=bench.device), dim=1)
    began = time.monotonic()
    for start in range(0, width if bench.device.type != "cpu" else min(width, 4096), 512):
        find_neighbours_tile(unit, slice(start, start + 512))
    bench.synchronize()
    neighbours = time.monotonic() - began
    lm, hook = bench.on_device.lm, "blocks.0.hook_resid_pre"
    directions = torch.randn(min(width, 4096), lm.d_model, device=bench.device)
    lens = seconds(bench, lambda: compute_logit_lens(lm, directions, hook))
    return {
        "features": width,
        "neighbours_s": neighbours,
        "lens_4096_s": lens,
        "vocabulary": lm.d_vocab,
    }


def run_out_of_memory(bench: Bench) -> Figures:
    """A steering run on a device that is full ends in a sentence, and gives its memory back."""
    if bench.device.type != "cuda":
        raise NotHere("Only a CUDA device's memory can be filled safely.")
    engine = bench.on_device
    bench.free()
    before = torch.cuda.memory_allocated(bench.device)
    free = torch.cuda.mem_get_info(bench.device)[0]
    ballast = torch.empty(max(0, free - (64 << 20)), dtype=torch.uint8, device=bench.device)
    edits = (Edit("add", (busy_feature(bench),), 1.0),)
    request = SteeringRequest(PROMPTS[0] * 20, edits, SamplingSettings(max_new=4))
    said = ""
    holds = torch.empty(48 << 20, dtype=torch.uint8, device=bench.device)
    try:
        list(generate_texts(engine.lm, engine.dictionaries, request))
    except InputError as refusal:
        said = str(refusal)
    del ballast, holds
    bench.free()
    left = torch.cuda.memory_allocated(bench.device) - before
    wrong = wanted(left <= 50 << 20, f"{left >> 20} MB were not given back")
    return {"said": said, "bytes_left": left, "wrong": wrong}


def steer_at_once(bench: Bench) -> Figures:
    """Three texts in three threads, and activations beside them, are what each is alone."""
    engine = bench.on_device
    tokens = bench.rows(2, min(32, engine.lm.n_ctx))
    hook = next(iter(engine.dictionaries.values())).hook_name

    def text(number: int) -> list[int]:
        edits = (Edit("add", (busy_feature(bench),), float(number)),)
        request = SteeringRequest(
            PROMPTS[number], edits, SamplingSettings(max_new=6, temperature=0)
        )
        return [
            one.id
            for one in generate_texts(engine.lm, engine.dictionaries, request)
            if isinstance(one, TokenRecord)
        ]

    def reading() -> Any:
        return engine.lm.activations(tokens, [hook])[hook].cpu()

    tasks: list[Callable[[], Any]] = [*(lambda i=i: text(i) for i in range(3)), reading]
    alone = [task() for task in tasks]
    together: list[Any] = [None] * len(tasks)

    def kept(number: int) -> None:
        together[number] = tasks[number]()

    threads = [threading.Thread(target=kept, args=(number,)) for number in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same = alone[:3] == together[:3]
    same = same and together[3] is not None and relative(together[3], alone[3]) < 1e-5
    return {"threads": len(tasks), "wrong": wanted(same, "work in several threads differs")}


STEPS: dict[Callable[[Bench], Figures], float] = {
    load_model: 30,
    encode: 30,
    harvest: 70,
    resume: 50,
    steer_and_ablate: 40,
    gradients: 40,
    measure_speed: 40,
    measure_scale: 40,
    run_out_of_memory: 20,
    steer_at_once: 20,
}
"""The steps in order, with the seconds that each may take."""
