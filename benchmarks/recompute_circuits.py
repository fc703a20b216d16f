"""Circuits recomputed without the project's own code paths: raw weights and plain transformers.

`python -m benchmarks.recompute_circuits --data DIR` finds sparse feature circuits on the
dictionaries of DIR, then computes again from the safetensors files, by forward hooks on the
Hugging Face model: the exact ablation of the 20 strongest nodes of each of five prompts, the
faithfulness of the whole circuit, and its strongest edges between neighbouring residual
dictionaries. Only `found_by_saefari` uses the project. Prints a line of JSON for each family of
dictionaries, in minutes.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.stats import spearmanr
from torch import Tensor
from transformers import AutoModelForCausalLM

FAMILIES = {
    "TopK residual": "sae-stories3m-resid*",
    "TopK attention": "sae-stories3m-attn*",
    "JumpReLU transcoders": "transcoder-stories3m-mlp*",
}
PROMPTS, WORDS, NODES, EDGES = 5, 20, 20, 20
Place = tuple[str, int]
"""What is read or written of a layer (resid_pre, resid_post, attn_out, mlp_out), and which."""


@dataclass(frozen=True)
class RawDictionary:
    """A dictionary's weights and where it stands, read from its folder."""

    weights: Mapping[str, Tensor]
    k: int | None
    """Of TopK; None: JumpReLU with a threshold."""
    centred: bool
    """Whether b_dec is taken off what is read."""
    rescaled: bool
    """Whether activations are measured in units of decoder norms."""
    place: Place
    """Where it writes."""
    transcodes: bool
    """Whether it reads the normalised input of the MLP, before the norm's gain."""

    @classmethod
    def read(cls, folder: Path) -> "RawDictionary":
        """Read a folder in sae-lens format."""
        cfg = json.loads((folder / "cfg.json").read_text("utf-8"))
        about = cfg["metadata"]
        hook = about.get("hook_name_out") or about["hook_name"]
        parts = hook.split(".")
        return cls(
            load_file(str(folder / "sae_weights.safetensors")),
            cfg.get("k") if cfg["architecture"] == "topk" else None,
            cfg["apply_b_dec_to_input"],
            bool(cfg.get("rescale_acts_by_decoder_norm")),
            (parts[-1].removeprefix("hook_"), int(parts[1])),
            "hook_name_out" in about,
        )

    def activations(self, x: Tensor) -> Tensor:
        """Feature activations [pos, d_sae] of what is read [pos, d_in], per unit of decoder row."""
        w = self.weights
        pre = (x - w["b_dec"] if self.centred else x) @ w["W_enc"] + w["b_enc"]
        norms = w["W_dec"].norm(dim=-1)
        if self.k is None:
            return pre.relu() * (pre > w["threshold"])
        scaled = pre * norms if self.rescaled else pre
        top = scaled.topk(self.k, -1)
        kept = torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())
        return kept / norms if self.rescaled else kept

    def decode(self, f: Tensor) -> Tensor:
        """What the activations [pos, d_sae] reconstruct [pos, d_out]."""
        return f @ self.weights["W_dec"] + self.weights["b_dec"]


class PlainModel:
    """A Hugging Face model of Llama's kind whose activations can be edited by place."""

    def __init__(self, folder: Path) -> None:
        self.network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.layers = self.network.model.layers

    def logits(self, ids: Sequence[int], edits: Mapping[Place, Callable] | None = None) -> Tensor:
        """Logits [vocab] at the last token. An edit takes what is there and the MLP's normalised
        input, and returns what goes on."""
        reads: dict[int, Tensor] = {}
        handles = []
        for layer, block in enumerate(self.layers):
            handles.append(
                block.post_attention_layernorm.register_forward_pre_hook(
                    lambda module, given, at=layer: reads.__setitem__(
                        at, normalised(given[0], module)
                    )
                )
            )
        for (what, layer), edit in (edits or {}).items():
            handles.append(self._hook(what, layer, lambda h, e=edit, at=layer: e(h, reads.get(at))))
        try:
            return self.network(torch.tensor([list(ids)])).logits[0, -1]
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, what: str, layer: int, edit: Callable[[Tensor], Tensor]) -> Any:
        block = self.layers[layer]
        if what == "resid_pre":
            return block.register_forward_pre_hook(
                lambda _, given, kw: ((edit(given[0]), *given[1:]), kw), with_kwargs=True
            )
        module = {"resid_post": block, "attn_out": block.self_attn, "mlp_out": block.mlp}[what]

        def changed(_: Any, __: Any, out: Any) -> Any:
            return (edit(out[0]), *out[1:]) if isinstance(out, tuple) else edit(out)

        return module.register_forward_hook(changed)


def normalised(h: Tensor, norm: Any) -> Tensor:
    """An RMS norm's output before its gain."""
    return h / (h.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()


@dataclass(frozen=True)
class Recomputation:
    """A circuit's JSON, and what raw weights say of the same prompt."""

    model: PlainModel
    dictionaries: Mapping[str, RawDictionary]
    circuit: Mapping[str, Any]

    @property
    def ids(self) -> list[int]:
        return self.circuit["prompts"][0]["ids"]

    def target(self, logits: Tensor) -> Tensor:
        """The log probability of the answers, or their difference to others."""
        answers, against = self.circuit["facts"]["answers"], self.circuit["facts"]["against"]
        rest = logits if against is None else logits[against[0]]
        return logits[answers[0]].logsumexp(-1) - rest.logsumexp(-1)

    @torch.no_grad()
    def ablations(self, nodes: Sequence[Mapping[str, Any]]) -> list[float]:
        """The target's change when each node alone goes to zero."""
        clean = self.target(self.model.logits(self.ids))
        found = []
        for node in nodes:
            d = self.dictionaries[node["dictionary"]]

            def edit(h: Tensor, read: Tensor | None, d=d, node=node) -> Tensor:
                at = node["position"]
                x = read if d.transcodes and read is not None else h
                f = d.activations(x[0])[at]
                index = node["feature"]
                W_dec = d.weights["W_dec"]
                gone = h[0, at] - d.decode(f) if index is None else f[index] * W_dec[index]
                new = h.clone()
                new[0, at] -= gone
                return new

            found.append(float(self.target(self.model.logits(self.ids, {d.place: edit})) - clean))
        return found

    @torch.no_grad()
    def faithfulness(self) -> float:
        """(F(C) - F(∅)) ÷ (F(M) - F(∅)): everything but the circuit's nodes at zero."""
        nodes = [n for n in self.circuit["nodes"] if n["kind"] in ("feature", "error")]
        whole = self.target(self.model.logits(self.ids))
        kept, none = (
            self.target(self.model.logits(self.ids, self._only(some))) for some in (nodes, [])
        )
        return float((kept - none) / (whole - none))

    def _only(self, nodes: Sequence[Mapping[str, Any]]) -> dict[Place, Callable]:
        edits: dict[Place, Callable] = {}
        for name, d in self.dictionaries.items():
            mine = [n for n in nodes if n["dictionary"] == name]
            keep = torch.zeros(len(self.ids), d.weights["W_dec"].shape[0])
            errors = torch.zeros(len(self.ids), 1)
            for n in mine:
                if n["feature"] is None:
                    errors[n["position"]] = 1
                else:
                    keep[n["position"], n["feature"]] = 1

            def edit(h: Tensor, read: Tensor | None, d=d, keep=keep, errors=errors) -> Tensor:
                x = read if d.transcodes and read is not None else h
                f = d.activations(x[0])
                new = h.clone()
                new[0] = d.decode(f * keep) + errors * (h[0] - d.decode(f))
                new[0, 0] = h[0, 0]  # BOS stays
                return new

            edits[d.place] = edit
        return edits

    def edges(self, most: int) -> Iterator[tuple[float, float]]:
        """(the project's weight, ∂m/∂v · ∂v/∂u · Δu by autograd) of the strongest edges between
        features of residual dictionaries of neighbouring layers."""
        nodes = {n["id"]: n for n in self.circuit["nodes"]}
        for edge in self.circuit["edges"]:
            u, v = nodes[edge["source"]], nodes[edge["target"]]
            if {u["kind"], v["kind"]} != {"feature"} or most <= 0:
                continue
            low, high = (self.dictionaries[n["dictionary"]] for n in (u, v))
            if {low.place[0], high.place[0]} == {"resid_pre"} and high.place[1] == low.place[1] + 1:
                most -= 1
                yield edge["weight"], self._edge(low, high, u, v)

    def _edge(self, low: RawDictionary, high: RawDictionary, u: Any, v: Any) -> float:
        streams: dict[Place, Tensor] = {}

        def watched(place: Place) -> Callable:
            def edit(h: Tensor, _: Tensor | None) -> Tensor:
                streams[place] = h + torch.zeros_like(h, requires_grad=True)
                return streams[place]

            return edit

        value = self.target(
            self.model.logits(self.ids, {one.place: watched(one.place) for one in (low, high)})
        )
        at, before = streams[high.place], streams[low.place]
        (slope,) = torch.autograd.grad(value, at, retain_graph=True)
        read = at[0, v["position"]] @ high.weights["W_enc"][:, v["feature"]]
        (reach,) = torch.autograd.grad(read, before)
        f = low.activations(before[0].detach())[u["position"], u["feature"]]
        through = slope[0, v["position"]] @ high.weights["W_dec"][v["feature"]]
        return float(through * (reach[0, u["position"]] @ low.weights["W_dec"][u["feature"]]) * -f)


def found_by_saefari(model: Path, folders: Sequence[Path], texts: Sequence[str]) -> Iterator[dict]:
    """The project's own circuits, as the JSON that it keeps: the only part that uses its code."""
    from backend.ablation.ablation_requests import PromptCase
    from backend.circuits.circuit_prompts import lay_out_circuit_prompts
    from backend.circuits.sparse_feature_circuit import (
        SparseFeatureSettings,
        find_sparse_feature_circuit,
    )
    from backend.dictionaries import load
    from backend.engine import LocalEngine
    from backend.model.device import choose_placement
    from backend.model.language_model import LanguageModel

    placement = choose_placement("cpu")
    lm = LanguageModel.load(str(model), placement)
    found = {
        path.name: load(str(path), name=path.name, placement=placement, width=lm.width)
        for path in folders
    }
    engine = LocalEngine(lm, found, bos=lm.bos)
    for text in texts:
        circuit = find_sparse_feature_circuit(
            engine,
            lay_out_circuit_prompts(engine, [PromptCase(text)]),
            (),
            SparseFeatureSettings(nodes=200),
        )
        yield json.loads(json.dumps(circuit.to_json()))


def agreement(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Spearman, slope of the second on the first, and the median relative error."""
    one, other = np.array(pairs).T
    both = np.cov(one, other)
    found: Any = spearmanr(one, other)
    return {
        "n": len(pairs),
        "spearman": float(found.statistic),
        "slope": float(both[0, 1] / both[0, 0]),
        "median_error": float(np.median(np.abs(one - other) / np.abs(other))),
    }


def compare_family(data: Path, model: PlainModel, folders: Sequence[Path]) -> dict[str, Any]:
    """One family's figures over the prompts."""
    estimates, measured, shares, edges, paths, reached = [], [], [], [], [], 0
    raw = {folder.name: RawDictionary.read(folder) for folder in folders}
    for circuit in found_by_saefari(data / "stories3m", folders, held_out(data)):
        again = Recomputation(model, raw, circuit)
        nodes = [n for n in circuit["nodes"] if n["kind"] in ("feature", "error")][:NODES]
        exact = again.ablations(nodes)
        estimates += zip([n["effect"] for n in nodes], exact, strict=True)
        measured += zip([n["exact"] for n in nodes], exact, strict=True)
        edges += again.edges(EDGES)
        if circuit["faithfulness"] is not None:
            shares.append((circuit["faithfulness"]["value"], again.faithfulness()))
        paths.append(circuit["effect_check"]["paths"])
        check = circuit["effect_check"]
        reached += check["spearman"] >= 0.95 and 0.9 <= check["slope"] <= 1.1
    return {
        "estimates": agreement(estimates),
        "exact values, largest difference": max(abs(a - b) for a, b in measured),
        "faithfulness, largest difference": max((abs(a - b) for a, b in shares), default=None),
        "edges": agreement(edges) if edges else None,
        "paths": paths,
        "runs whose own check agrees": reached,
    }


def held_out(data: Path) -> list[str]:
    """The first words of held-out stories."""
    lines = (data / "text" / "tinystories_validation_part.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line)["text"].split() for line in lines]
    return [" ".join(words[:WORDS]) for words in texts if len(words) > WORDS + 5][:PROMPTS]


def main() -> None:
    """Print one line for each family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="stories3m and its dictionaries")
    parser.add_argument("--more", default="", help="a folder of other dictionaries of stories3m")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = PlainModel(given.data / "stories3m")
    families = {name: sorted(given.data.glob(pattern)) for name, pattern in FAMILIES.items()}
    if given.more:
        families[given.more] = sorted(path for path in Path(given.more).iterdir() if path.is_dir())
    for name, folders in families.items():
        print(json.dumps({"family": name} | compare_family(given.data, model, folders)), flush=True)


if __name__ == "__main__":
    main()
