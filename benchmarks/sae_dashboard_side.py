"""SAEDashboard on the benchmarks' model, dictionary and tokens; runs in its own environment.

A few batches of 128 features, laid out and written as its Neuronpedia runner does (20 top sequences
and 5 quantiles of 5), with its cache of activations on disk. Imports nothing of Saefari.
"""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
# (the other environment's libraries)

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

for unused in ("torchvision", "torchaudio"):  # another build than torch's breaks transformers
    sys.modules[unused] = None  # type: ignore[assignment]  # the documented way to block an import

import numpy as np  # noqa: E402
import torch  # noqa: E402

FEATURES = 128
PROMPTS = 32


def main() -> None:
    """Read the arguments, run, write the facts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--dictionary", required=True)
    parser.add_argument("--tokens", type=Path, required=True, help=".npy [sequence pos]")
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.write_text(json.dumps(run(args)), "utf-8")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds of each batch of features, and what its first features look like."""
    from sae_lens import SAE

    model = load_model(args.model)
    sae = SAE.load_from_disk(args.dictionary, device="cpu")
    tokens = torch.from_numpy(np.load(args.tokens)).long()
    batches, written, first = [], [], {}
    for number in range(args.batches):
        features = list(range(number * FEATURES, (number + 1) * FEATURES))
        wall, cpu = time.perf_counter(), time.process_time()
        text = one_batch(args, model, sae, tokens, features)
        batches.append((time.process_time() - cpu, time.perf_counter() - wall))
        (args.work / f"batch-{number}.json").write_text(text)
        written.append(len(text))
        first = first or summary(json.loads(text))
    return {
        "cpu_s": [cpu for cpu, _ in batches],
        "wall_s": [wall for _, wall in batches],
        "bytes": written,
        "features": FEATURES,
        "tokens": tokens.numel(),
        "cache_bytes": sum(file.stat().st_size for file in (args.work / "cache").iterdir()),
        "first": first,
        "peak_mb": peak_mb(),
    }


def load_model(folder: str) -> Any:
    """A HookedTransformer with the folder's weights, unprocessed."""
    from sae_lens import HookedSAETransformer
    from transformer_lens import HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
    from transformers import GPT2LMHeadModel

    theirs = GPT2LMHeadModel.from_pretrained(folder).eval()
    config = theirs.config
    cfg = HookedTransformerConfig(
        n_layers=config.n_layer,
        d_model=config.n_embd,
        n_ctx=config.n_positions,
        d_head=config.n_embd // config.n_head,
        n_heads=config.n_head,
        d_vocab=config.vocab_size,
        act_fn="gelu_new",
        normalization_type="LN",
        eps=config.layer_norm_epsilon,
        original_architecture="GPT2LMHeadModel",
        device="cpu",
    )
    model = HookedSAETransformer(cfg, move_to_device=False)
    model.load_and_process_state_dict(
        convert_gpt2_weights(theirs, cfg),
        fold_ln=False,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    return model.eval()


def one_batch(
    args: argparse.Namespace, model: Any, sae: Any, tokens: Any, features: list[int]
) -> str:
    """The JSON of one batch of features; BOS, which begins every row, is left out of them."""
    from sae_dashboard.neuronpedia.neuronpedia_converter import NeuronpediaConverter
    from sae_dashboard.neuronpedia.neuronpedia_runner_config import NeuronpediaRunnerConfig
    from sae_dashboard.sae_vis_data import SaeVisConfig
    from sae_dashboard.sae_vis_runner import SaeVisRunner

    hook = sae.cfg.metadata.hook_name
    config = SaeVisConfig(
        hook_point=hook,
        features=features,
        minibatch_size_features=FEATURES,
        minibatch_size_tokens=PROMPTS,
        feature_centric_layout=layout(),
        ignore_tokens={int(tokens[0, 0])},
        cache_dir=args.work / "cache",
    )
    data = SaeVisRunner(config).run(encoder=sae, model=model, tokens=tokens)
    vocabulary = json.loads((Path(args.model) / "tokenizer.json").read_text("utf-8"))["model"]
    names = {number: name for name, number in vocabulary["vocab"].items()}
    settings = NeuronpediaRunnerConfig(
        sae_set="benchmark",
        sae_path="",
        outputs_dir="",
        n_prompts_total=len(tokens),
        n_tokens_in_prompt=tokens.shape[1],
        model_id="benchmark",
        layer=int(hook.split(".")[1]),
    )
    return NeuronpediaConverter.convert_to_np_json(model, data, settings, names)


def layout() -> Any:
    """What its Neuronpedia runner asks for."""
    from sae_dashboard import components_config as parts
    from sae_dashboard.layout import SaeVisLayoutConfig

    sequences = parts.SequencesConfig(
        stack_mode="stack-all",
        buffer=None,
        compute_buffer=True,  # type: ignore[arg-type]  # as there
        n_quantiles=5,
        top_acts_group_size=20,
        quantile_group_size=5,
    )
    column = parts.Column(
        sequences,
        parts.ActsHistogramConfig(),
        parts.LogitsHistogramConfig(),
        parts.LogitsTableConfig(),
        parts.FeatureTablesConfig(n_rows=3),
    )
    return SaeVisLayoutConfig(columns=[column])


def summary(batch: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Each feature's largest activation in a stored sequence, and its density: for comparison."""
    return {
        str(one["feature_index"]): {
            "largest": max(
                (max(a["values"], default=0.0) for a in one["activations"]), default=0.0
            ),
            "density": one["frac_nonzero"],
        }
        for one in batch["features"]
    }


def peak_mb() -> float:
    """Largest resident memory of this process, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1.024 / 1000
    raise RuntimeError("/proc/self/status has no line VmHWM")


if __name__ == "__main__":
    main()
