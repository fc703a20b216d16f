"""A harvest held to an independent recomputation: raw weights, plain transformers, numpy.

Nothing of Saefari is imported. `saefari harvest` makes a harvest of stories3m in a process of its
own; its file is read with DuckDB, and every figure is computed again from the safetensors files and
the Hugging Face model, one sequence at a time. Run it with
`python -m benchmarks.recompute_harvest --data DIR`, where DIR holds the shared model, dictionaries
and texts.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

DICTIONARIES = (
    "sae-stories3m-resid3-topk",
    "sae-stories3m-attn2-topk",
    "transcoder-stories3m-mlp3",
)
TEXT = "text/tinystories_validation_part.jsonl"
WINDOW = 32
Array = np.ndarray


@dataclass
class Recomputed:
    """One dictionary's activations on the tokens that a harvest counted."""

    name: str
    f: Array
    """[tokens d_sae]."""
    y: Array
    """What it should write, [tokens d_out], and what it writes."""
    y_hat: Array
    at: Array
    """[tokens 2]: sequence and position."""
    decoder: Array
    """[d_sae d_out], per unit of activation."""
    worst: dict[str, float]
    """The largest difference found of each figure."""

    def note(self, figure: str, difference: float) -> None:
        """Keep the largest difference."""
        self.worst[figure] = max(self.worst.get(figure, 0.0), float(difference))


class Model:
    """The plain model, with what three kinds of hook point give, and a way to replace it."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.special = set(AutoTokenizer.from_pretrained(folder).all_special_ids)

    @torch.no_grad()
    def read(self, ids: list[int], layer: int, kind: str) -> tuple[Array, Array]:
        """What a dictionary reads and should write at a layer, [pos d] each."""
        block, seen = self.model.model.layers[layer], {}

        def keep(name: str, value: Any) -> None:
            seen[name] = (value[0] if isinstance(value, tuple) else value)[0].numpy()

        handles = [
            block.input_layernorm.register_forward_pre_hook(lambda m, a: keep("resid", a[0])),
            block.self_attn.register_forward_hook(lambda m, a, out: keep("attn", out)),
            block.post_attention_layernorm.register_forward_pre_hook(
                lambda m, a: keep("mid", a[0])
            ),
            block.mlp.register_forward_hook(lambda m, a, out: keep("mlp", out)),
        ]
        self.model(torch.tensor([ids]))
        for handle in handles:
            handle.remove()
        if kind != "mlp":
            return seen[kind], seen[kind]
        eps = block.post_attention_layernorm.variance_epsilon
        mid = seen["mid"]
        return mid / np.sqrt((mid**2).mean(-1, keepdims=True) + eps), seen["mlp"]

    @torch.no_grad()
    def losses(self, ids: list[int], layer: int, kind: str, new: Array | None) -> Array:
        """Loss of each next token, with `new` in place of what stands at the layer after BOS."""
        block, handles = self.model.model.layers[layer], []

        def put(h: torch.Tensor) -> torch.Tensor:
            h = h.clone()
            h[0, 1:] = torch.from_numpy(np.asarray(new, dtype=np.float32))
            return h

        def after(module: Any, args: Any, out: Any) -> Any:
            return (put(out[0]), *out[1:]) if isinstance(out, tuple) else put(out)

        if new is not None and kind == "resid":
            handles.append(block.register_forward_pre_hook(lambda m, a: (put(a[0]), *a[1:])))
        elif new is not None:
            module = block.self_attn if kind == "attn" else block.mlp
            handles.append(module.register_forward_hook(after))
        logits = self.model(torch.tensor([ids])).logits[0, :-1].double()
        for handle in handles:
            handle.remove()
        chosen = logits.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        return (logits.logsumexp(1) - chosen).numpy()


class Dictionary:
    """An SAE or transcoder from its two files."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.cfg = json.loads((folder / "cfg.json").read_text("utf-8"))
        self.w = load_file(folder / "sae_weights.safetensors")
        hook = self.cfg["metadata"]["hook_name"]
        self.layer = int(hook.split(".")[1])
        self.kind = "mlp" if "ln2" in hook else "attn" if "attn" in hook else "resid"
        norm = np.linalg.norm(self.w["W_dec"], axis=1, keepdims=True)
        self.scale = norm[:, 0] if self.cfg.get("rescale_acts_by_decoder_norm") else 1.0
        self.decoder = self.w["W_dec"] / (norm if np.ndim(self.scale) else 1.0)

    def encode(self, x: Array) -> Array:
        """[n d_in] → [n d_sae]."""
        if self.cfg.get("apply_b_dec_to_input"):
            x = x - self.w["b_dec"]
        pre = (x @ self.w["W_enc"] + self.w["b_enc"]) * self.scale
        if "k" not in self.cfg:
            return np.where(pre > self.w["threshold"], np.maximum(pre, 0), 0)
        keep = np.argpartition(-pre, self.cfg["k"], axis=1)[:, : self.cfg["k"]]
        f = np.zeros_like(pre)
        np.put_along_axis(f, keep, np.maximum(np.take_along_axis(pre, keep, 1), 0), 1)
        return f

    def decode(self, f: Array) -> Array:
        """[n d_sae] → [n d_out]."""
        return f @ self.decoder + self.w["b_dec"]


def recompute(model: Model, one: Dictionary, sequences: list[tuple[int, list[int]]]) -> Recomputed:
    """All activations on counted tokens."""
    f, y, at = [], [], []
    for number, ids in sequences:
        x, target = model.read(ids, one.layer, one.kind)
        kept = [p for p, token in enumerate(ids) if token not in model.special]
        f.append(one.encode(x[kept]))
        y.append(target[kept])
        at += [(number, p) for p in kept]
    every = np.concatenate(f)
    return Recomputed(
        one.name, every, np.concatenate(y), one.decode(every), np.array(at), one.decoder, {}
    )


def statistics(db: Any, got: Recomputed) -> None:
    """Counts, densities, moments of every feature."""
    rows = table(db, "feature", got.name, "feature")
    n = (got.f > 0).sum(0)
    got.note("active tokens", np.abs(n - column(rows, "n_active")).max())
    got.note("density", np.abs(n / len(got.f) - column(rows, "density")).max())
    fires = n > 1
    mean = got.f.sum(0)[fires].astype(float) / n[fires]
    spread = np.array([got.f[got.f[:, i] > 0, i].std() for i in np.flatnonzero(fires)])
    wanted = {"max_act": got.f.max(0)[fires], "mean_act": mean, "std_act": spread}
    for name, values in wanted.items():
        found = column(rows, name)[fires]
        got.note(f"{name}, relative", (np.abs(found - values) / np.abs(values).max()).max())
    got.note("mean_all", np.abs(got.f.mean(0, dtype=float) - column(rows, "mean_all")).max())
    coactivation(rows, got)


def coactivation(rows: list[dict[str, Any]], got: Recomputed) -> None:
    """φ of the listed pairs, and whether the list is the true one."""
    on = (got.f > 0).astype(np.float32)
    n, joint, size = on.sum(0, dtype=float), (on.T @ on).astype(float), len(on)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(n * (size - n))
        phi = (size * joint - np.outer(n, n)) / np.outer(spread, spread)
    np.fill_diagonal(phi, np.nan)
    phi[~(np.isfinite(phi) & (joint >= 5) & (phi > 0))] = 0
    overlap = []
    for feature, row in enumerate(rows):
        best = np.sort(phi[feature])[::-1][:10]
        best = best[best > 0]
        listed = np.array(row["coactive_phi"] or [])
        got.note(
            "phi of listed pairs", np.abs(listed - phi[feature, row["coactive"]]).max(initial=0)
        )
        if len(best):
            true = set(np.flatnonzero(phi[feature] >= best[-1] - 1e-6).tolist())
            overlap.append(len(true.intersection(row["coactive"])) / min(10, len(best)))
    got.note("1 − overlap of the listed ten with the true ten", 1 - float(np.mean(overlap)))


def contexts(db: Any, got: Recomputed) -> None:
    """Stored contexts: their activations, and whether the top ones are their split's strongest."""
    where = {(int(s), int(p)): i for i, (s, p) in enumerate(got.at)}
    of = dict(db.execute("SELECT sequence, document FROM sequence").fetchall())
    split = dict(db.execute("SELECT sequence, split::VARCHAR FROM sequence").fetchall())
    top: dict[tuple[int, str], list[float]] = {}
    weights = np.zeros(got.f.shape[1])
    for row in table(db, "context", got.name, "feature"):
        inside = range(row["start"], row["start"] + row["length"])
        places = [where[row["sequence"], p] for p in inside if (row["sequence"], p) in where]
        acts = got.f[places, row["feature"]]
        stored = dict(zip(row["positions"], row["activations"], strict=True))
        true = {int(got.at[i, 1]): a for i, a in zip(places, acts, strict=True) if a > 0}
        got.note("context positions that differ", len(set(stored) ^ set(true)))
        for p in set(stored) & set(true):
            got.note("context activations", abs(stored[p] - true[p]))
        if row["stratum"] == "top":
            top.setdefault((row["feature"], row["split"]), []).append(row["value"])
        else:
            weights[row["feature"]] += row["weight"]
    documents = np.array([of[int(s)] for s, _ in got.at])
    splits = np.array([split[int(s)] for s, _ in got.at])
    for (feature, name), values in top.items():
        a = np.where(splits == name, got.f[:, feature], 0)
        best = np.zeros(documents.max() + 1)
        np.maximum.at(best, documents, a)
        want = np.sort(best[best > 0])[::-1][: len(values)]
        got.note("top values", np.abs(np.sort(values)[::-1] - want).max())
    _, window = np.unique(got.at[:, 0] * 10_000 + got.at[:, 1] // WINDOW, return_inverse=True)
    firing = np.zeros((window.max() + 1, got.f.shape[1]), dtype=bool)
    np.logical_or.at(firing, window, got.f > 0)
    got.note("firing windows − sum of range weights", np.abs(firing.sum(0) - weights).max())


def lens(db: Any, model: Model, got: Recomputed) -> None:
    """Promoted tokens: (W_U centred)·(γ ⊙ d)."""
    head = model.model.lm_head.weight.detach().double().numpy()
    gain = model.model.model.norm.weight.detach().double().numpy()
    values = (got.decoder.astype(float) * gain) @ (head - head.mean(0)).T
    for feature, row in enumerate(table(db, "feature", got.name, "feature")):
        want = np.sort(values[feature])[::-1][:10]
        got.note("lens values", np.abs(np.array(row["promoted_values"]) - want).max())
        got.note(
            "lens values of its tokens",
            np.abs(values[feature, row["promoted_tokens"]] - want).max(),
        )


def self_check(
    db: Any, model: Model, one: Dictionary, got: Recomputed, firsts: list[list[int]]
) -> Iterator[str]:
    """Explained variance, L0 and losses on the first 50 documents' beginnings."""
    x, y = zip(*(model.read(ids, one.layer, one.kind) for ids in firsts), strict=True)
    kept = [[p for p, t in enumerate(ids) if t not in model.special] for ids in firsts]
    f = [one.encode(a[k]) for a, k in zip(x, kept, strict=True)]
    true = np.concatenate([a[k] for a, k in zip(y, kept, strict=True)]).astype(float)
    guess = [one.decode(a) for a in f]
    error = ((true - np.concatenate(guess)) ** 2).sum() / ((true - true.mean(0)) ** 2).sum()
    row = table(db, "dictionary", got.name, "dictionary")[0]
    got.note("explained variance", abs(1 - error - row["explained_variance"]))
    got.note("L0", abs(float((np.concatenate(f) > 0).sum(1).mean()) - row["l0"]))
    news = {
        "ce_clean": [None] * len(firsts),
        "ce_spliced": guess,
        "ce_zero": [np.zeros_like(g) for g in guess],
        "ce_mean": [np.broadcast_to(true.mean(0), g.shape) for g in guess],
    }
    n = sum(len(ids) - 2 for ids in firsts)
    for name, new in news.items():
        total = sum(
            float(model.losses(ids, one.layer, one.kind, put)[1:].sum())
            for ids, put in zip(firsts, new, strict=True)
        )
        yield f"  {name}: stored {row[name]:.4f}, recomputed {total / n:.4f} nats"
        if name == "ce_clean":
            got.note("ce_clean", abs(total / n - row[name]))


def table(db: Any, name: str, dictionary: str, order: str) -> list[dict[str, Any]]:
    """A dictionary's rows of a table."""
    query = f"SELECT * FROM {name} WHERE dictionary = ? ORDER BY {order}"
    found = db.execute(query, [dictionary])
    names = [one[0] for one in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def column(rows: list[dict[str, Any]], name: str) -> Array:
    """One column as floats, absent values as NaN."""
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=float)


def main() -> None:
    """Make the harvest, recompute it, print how far apart they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=12_000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = Model(args.data / "stories3m")
    ours = [Dictionary(args.data / name) for name in DICTIONARIES]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "app.cli",
            "harvest",
            "--corpus",
            str(args.data / TEXT),
            "--model",
            str(args.data / "stories3m"),
            "--tokens",
            str(args.tokens),
            "--store",
            folder,
        ]
        for one in ours:
            command += ["--dictionary", str(args.data / one.name)]
        subprocess.run(command, check=True, capture_output=True)
        [path] = (Path(folder) / "harvests").glob("*.duckdb")
        db = duckdb.connect(str(path), read_only=True)
        query = "SELECT sequence, document, token_ids FROM sequence ORDER BY sequence"
        rows = db.execute(query).fetchall()
        firsts = list({document: ids[:128] for _, document, ids in reversed(rows)}.values())
        for one in ours:
            got = recompute(model, one, [(number, ids) for number, _, ids in rows])
            print(f"{one.name}: {len(got.f)} tokens, {len(rows)} sequences")
            statistics(db, got)
            contexts(db, got)
            lens(db, model, got)
            for line in self_check(db, model, one, got, firsts[::-1][:50]):
                print(line)
            for figure, worst in got.worst.items():
                print(f"  {figure}: largest difference {worst:.2g}")


if __name__ == "__main__":
    main()
