"""What the steps of `benchmarks.gpu_check` share: models on two devices, and comparisons."""

import gc
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backend.corpus import open_corpus
from backend.dictionaries import load
from backend.dictionaries.activation_rules import TopKRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary, Triples, single_sites
from backend.engine import LocalEngine
from backend.engine_protocol import TextActivations
from backend.harvest.harvest_plan import HarvestPlan
from backend.harvest.run import HarvestRequest, HarvestRun
from backend.model.device import Placement
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.records import FeatureId

CPU = Placement(torch.device("cpu"), torch.float32, "the reference")
PROMPTS = ("Once upon a time there was a", "The little girl said that she", "One day the big dog")
Figures = dict[str, Any]


class NotHere(Exception):
    """A step that this device cannot show anything with."""


@dataclass
class Bench:
    """What the steps share; loaded at first need, once on the device and once on the CPU."""

    data: Path
    out: Path
    device: torch.device
    tiny: bool = False
    harvests: dict[str, Path] = field(default_factory=dict)
    """Published files by the road that made them."""

    @property
    def placement(self) -> Placement:
        return Placement(self.device, torch.float32, "the device under test")

    @cached_property
    def model(self) -> Path:
        """The model folder with most weights."""
        found = [path.parent for path in self.data.glob("*/config.json")]
        if not found:
            raise FileNotFoundError(f"There is no model folder in {self.data}.")
        return max(found, key=lambda one: sum(p.stat().st_size for p in one.glob("*.safetensors")))

    @cached_property
    def corpus(self) -> str:
        texts = sorted([*self.data.glob("text/*.jsonl"), *self.data.glob("text/*.txt")])
        return str(texts[0]) if texts else "stdlib"

    @cached_property
    def specs(self) -> dict[str, str]:
        """At most three dictionaries that fit the model, of different kinds; a transcoder first."""
        chosen: dict[str, str] = {}
        for path in sorted(self.data.glob("*/cfg.json")):
            config = json.loads(path.read_text("utf-8"))
            hook = (config.get("metadata") or config).get("hook_name", "")
            kind = str(config.get("architecture")) + hook.rpartition(".")[2]
            name = "".join(c for c in kind if c.isalnum())
            try:
                load(str(path.parent), name=name, placement=CPU, width=self.on_cpu_model.width)
            except InputError:
                continue
            chosen.setdefault(name, str(path.parent))
        ordered = sorted(chosen, key=lambda name: "transcoder" not in name)
        return {name: chosen[name] for name in ordered[:3]}

    @cached_property
    def on_cpu_model(self) -> LanguageModel:
        return LanguageModel.load(str(self.model), CPU)

    @cached_property
    def on_cpu(self) -> LocalEngine:
        return self._engine(self.on_cpu_model, CPU)

    @cached_property
    def on_device(self) -> LocalEngine:
        return self._engine(LanguageModel.load(str(self.model), self.placement), self.placement)

    def _engine(self, lm: LanguageModel, placement: Placement) -> LocalEngine:
        found = {
            name: load(spec, name=name, placement=placement, width=lm.width)
            for name, spec in self.specs.items()
        }
        return LocalEngine(lm, found, bos=lm.bos)

    def rows(self, n: int, length: int) -> Tensor:
        """Token ids of the corpus, int64 [n length], BOS in front where the model has one."""
        lm = self.on_cpu_model
        head = [] if lm.bos is None else [lm.bos]
        step, found = length - len(head), []
        for document in open_corpus(self.corpus):
            ids = lm.tokenizer(document.text, add_special_tokens=False)["input_ids"]
            found += [[*head, *ids[i : i + step]] for i in range(0, len(ids) - step, step)]
            if len(found) >= n:
                break
        return torch.tensor(found[:n])

    def synchronize(self) -> None:
        """Wait for the device, so that a step's time is its own."""
        if self.device.type != "cpu" and torch.accelerator.is_available():
            torch.accelerator.synchronize()

    def free(self) -> None:
        """Give back what a step held."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def request(bench: Bench, road: str, placement: Placement, **more: Any) -> HarvestRequest:
    """A harvest of the bench's dictionaries, into a store of its own."""
    length = min(64, bench.on_cpu_model.n_ctx)
    size: dict[str, Any] = (
        {"tokens": 1_500, "forward_batch": 256} if bench.tiny else {"tokens": 100_000}
    )
    return HarvestRequest(
        model=str(bench.model),
        dictionaries=[f"{name}={spec}" for name, spec in bench.specs.items()],
        corpora=[bench.corpus],
        store=bench.out / f"store-{road}",
        placement=placement,
        plan=HarvestPlan(context_size=length, **size),
        again=True,
        **more,
    )


def finished(asked: HarvestRequest) -> Path:
    """The published file of a harvest that is run to its end."""
    one = HarvestRun(asked)
    for _ in one.run():
        pass
    return published(one)


def published(one: HarvestRun) -> Path:
    return one.request.store / "harvests" / f"{one.id}.duckdb"


def busy_feature(bench: Bench) -> FeatureId:
    """A feature of the first dictionary that fires on the first prompt."""
    engine = bench.on_cpu
    name = next(iter(engine.dictionaries))
    fired = engine.compute_activations(engine.read(PROMPTS[0]), [name])[name]
    return FeatureId(name, int(fired.feature[len(fired.feature) // 2]) if len(fired.feature) else 0)


def random_topk(d: int, width: int, device: torch.device) -> Dictionary:
    """An untrained TopK dictionary with k = 32, on the device."""
    made = torch.Generator().manual_seed(0)
    W = torch.randn(d, width, generator=made).to(device) / d**0.5
    coder = AffineCoder(
        W, W.new_zeros(width), W.T.contiguous(), W.new_zeros(d), TopKRule(min(32, width))
    )
    sites = single_sites("blocks.0.hook_resid_pre", "blocks.0.hook_resid_pre", coder)
    return Dictionary("random", *sites, "topk", "random", "", coder)


def seconds(bench: Bench, work: Callable[[], Any], rounds: int = 3) -> float:
    """The shortest of a few rounds, after one that warms up."""
    taken = []
    for _ in range(rounds + 1):
        bench.synchronize()
        began = time.perf_counter()
        work()
        bench.synchronize()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def count_waits(bench: Bench, work: Callable[[], Any]) -> int | None:
    """How often the host waited for a CUDA device; None elsewhere."""
    if bench.device.type != "cuda":
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in caught)


def compare_triples(ours: Triples, theirs: Triples, d_sae: int) -> Figures:
    """How far two encodings are apart: share of differing support, and of values where shared."""
    one, other = by_key(ours, d_sae), by_key(theirs, d_sae)
    shared = one.keys() & other.keys()
    largest = max(map(abs, one.values()), default=1.0)
    apart = max((abs(one[key] - other[key]) for key in shared), default=0.0)
    return {
        "nonzero": len(one),
        "support_differs": 1 - len(shared) / max(1, len(one.keys() | other.keys())),
        "values_differ": apart / largest,
    }


def by_key(triples: Triples, d_sae: int) -> dict[int, float]:
    """Values by token · d_sae + feature."""
    token, feature, value = (column.cpu() for column in triples)
    return dict(zip((token.long() * d_sae + feature).tolist(), value.tolist(), strict=True))


def dense(firing: TextActivations) -> dict[str, float]:
    """A firing's values by token and feature."""
    columns = (firing.position.tolist(), firing.feature.tolist(), firing.value.tolist())
    return {f"{token}/{feature}": value for token, feature, value in zip(*columns, strict=True)}


def correlation(one: dict[str, float], other: dict[str, float]) -> float:
    """Over everything that either has; absent is 0. 1 where both are empty or equal."""
    keys = sorted(one.keys() | other.keys())
    a, b = (np.array([given.get(key, 0.0) for key in keys]) for given in (one, other))
    if np.allclose(a, b, rtol=1e-4, atol=1e-6):
        return 1.0
    return float(np.corrcoef(a, b)[0, 1])


def relative(one: Tensor, other: Tensor) -> float:
    """Norm of the difference over the norm of the second, on the CPU."""
    a, b = one.detach().cpu().float(), other.detach().cpu().float()
    return float((a - b).norm() / b.norm().clamp_min(1e-12))


def wanted(holds: bool, otherwise: str) -> list[str]:
    return [] if holds else [otherwise]
