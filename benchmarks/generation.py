"""Steered generation beside Hugging Face's own: tokens a second, rows side by side, first token.

Three models, since what a hook costs is a fixed time and what a model costs is not: the demo's, the
small real one where SAEFARI_TEST_DATA names it, and a random one of 12 layers, 512 wide.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from backend.dictionaries import load
from backend.dictionaries.activation_rules import TopKRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary, single_sites
from backend.generation.prompt_tokenization import PromptTokens
from backend.generation.records import GenerationRow, SamplingSettings, TokenRecord
from backend.generation.token_stream import StreamOptions, stream_tokens
from backend.interventions.records import Edit
from backend.model.device import choose_placement
from backend.model.language_model import LanguageModel
from benchmarks.goals import Goal, table
from feature_store.records import FeatureId

PROMPT = 32
NEW = 48
FEATURES = 4096
WIDE = {"n_embd": 512, "n_layer": 12, "n_head": 8, "n_positions": 1024, "vocab_size": 8192}
DEMO = Path(__file__).resolve().parent.parent / "backend" / "demo" / "weights"


@dataclass(frozen=True)
class Case:
    """A model with dictionaries that edits can take features of."""

    name: str
    lm: LanguageModel
    dictionaries: Mapping[str, Dictionary]

    def edits(self, n: int, mode: str = "add") -> tuple[Edit, ...]:
        """n edits, spread over the dictionaries: additions, or clamps, for which every token's
        activations must be read."""
        names = list(self.dictionaries)
        chosen = [FeatureId(names[i % len(names)], 3 + i // len(names)) for i in range(n)]
        return tuple(Edit(mode, (feature,), 0.5) for feature in chosen)


def cases(folder: Path) -> list[Case]:
    """What there is here."""
    found = [_random(folder)]
    if (demo := _demo()) is not None:
        found.insert(0, demo)
    given = os.environ.get("SAEFARI_TEST_DATA")
    if given:
        found.insert(len(found) - 1, _real(Path(given)))
    return found


def measure(folder: Path, rounds: int, new: int = NEW) -> dict[str, Any]:
    """By model: cpu-ms a token of each way to generate, and of the first token."""
    torch.set_num_threads(1)
    return {case.name: measure_case(case, rounds, new) for case in cases(folder)}


def measure_case(case: Case, rounds: int, new: int) -> dict[str, Any]:
    """Medians of interleaved rounds; ratios are medians of each round's own ratio."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, case.lm.d_vocab, (PROMPT,), generator=generator).tolist()
    ways = _ways(case, ids, new)
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            begun = time.process_time()
            tokens = way()
            spent[name].append(1000 * (time.process_time() - begun) / tokens)
    spent = {name: times[1:] for name, times in spent.items()}  # the first round warms up
    facts: dict[str, Any] = {name: median(times) for name, times in spent.items()}
    pairs = {
        "speed, no edit": ("huggingface", "ours"),
        "speed, 1 edit": ("huggingface", "1 edit"),
        "speed, 8 edits": ("huggingface", "8 edits"),
        "speed, 1 clamp": ("huggingface", "1 clamp"),
        "speed, 8 clamps": ("huggingface", "8 clamps"),
        "speed over a plain loop": ("plain loop", "ours"),
        "two rows": ("default + steered", "1 edit"),
        "three rows": ("with guard", "1 edit"),
        "first token": ("first token", "prefill"),
    }
    facts["ratios"] = {
        name: median(a / b for a, b in zip(spent[one], spent[other], strict=True))
        for name, (one, other) in pairs.items()
    }
    return facts


def _ways(case: Case, ids: list[int], new: int) -> dict[str, Callable[[], int]]:
    lm, network = case.lm, case.lm.bare
    prompt = torch.tensor([ids])

    def huggingface() -> int:
        made: Any = network
        out = made.generate(prompt, max_new_tokens=new, do_sample=True, top_k=0, top_p=1.0)
        return out.shape[1] - PROMPT

    def records(rows: list[GenerationRow], guard: bool = False) -> Iterator[TokenRecord]:
        start, sampling = PromptTokens(tuple(ids)), SamplingSettings(max_new=new)
        found = stream_tokens(
            lm, case.dictionaries, start, rows, sampling, StreamOptions(guard=guard)
        )
        return (one for one in found if isinstance(one, TokenRecord))

    def ours(rows: list[GenerationRow], guard: bool = False) -> int:
        return 1 + max(one.index for one in records(rows, guard))

    def first(rows: list[GenerationRow]) -> int:
        return 1 + next(records(rows)).index

    def prefill() -> int:
        with torch.no_grad():
            network(prompt, use_cache=True, logits_to_keep=1)
        return 1

    one, eight = GenerationRow("steered", case.edits(1)), GenerationRow("steered", case.edits(8))
    clamp, clamps = (
        GenerationRow("steered", case.edits(1, "clamp")),
        GenerationRow("steered", case.edits(8, "clamp")),
    )
    plain = GenerationRow("default")
    return {
        "huggingface": huggingface,
        "plain loop": lambda: _loop(lm, prompt, new),
        "ours": lambda: ours([plain]),
        "1 edit": lambda: ours([one]),
        "8 edits": lambda: ours([eight]),
        "1 clamp": lambda: ours([clamp]),
        "8 clamps": lambda: ours([clamps]),
        "default + steered": lambda: ours([plain, one]),
        "with guard": lambda: ours([plain, one], guard=True),
        "prefill": prefill,
        "first token": lambda: first([one]),
    }


@torch.no_grad()
def _loop(lm: LanguageModel, prompt: torch.Tensor, new: int) -> int:
    """The least that generating takes: forward, draw, again."""
    cache, tokens = None, prompt
    for _ in range(new):
        out = lm.bare(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        tokens = torch.multinomial(out.logits[:, -1].softmax(-1), 1)
    return new


def report(facts: dict[str, Any]) -> str:
    """One column a model."""
    names = [name for name in next(iter(facts.values())) if name != "ratios"]
    rows = [[name, *(one[name] for one in facts.values())] for name in names]
    ratios = next(iter(facts.values()))["ratios"]
    rows += [
        [f"{name}, ratio", *(one["ratios"][name] for one in facts.values())] for name in ratios
    ]
    title = f"Generation, {NEW} tokens after {PROMPT}: cpu-ms a token (the last two: a call)"
    return table(title, ["", *facts], rows)


def goals(facts: dict[str, Any]) -> list[Goal]:
    """Of the issue: speed, rows side by side, first token."""
    found = []
    for name, one in facts.items():
        ratio = one["ratios"]
        found += [
            Goal(
                f"{name}, steered speed over Hugging Face", ratio["speed, 1 edit"], 0.95, "×", True
            ),
            Goal(f"{name}, two rows over one", ratio["two rows"], 1.9, "×"),
            Goal(f"{name}, three rows over one", ratio["three rows"], 2.6, "×"),
            Goal(f"{name}, first token over a prefill", ratio["first token"], 1.2, "×"),
        ]
    return found


def _random(folder: Path) -> Case:
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    ends: Any = {"bos_token_id": 0, "eos_token_id": None}
    lm = LanguageModel.wrap(
        GPT2LMHeadModel(GPT2Config(**WIDE, **ends)), tokenizer, "random-12", choose_placement("cpu")
    )
    return Case("12 layers, 512 wide", lm, _random_dictionaries(lm, 8))


def _random_dictionaries(lm: LanguageModel, n: int) -> dict[str, Dictionary]:
    """TopK in successive layers: the dearest rule, since it compares all features."""
    made = {}
    for layer in range(n):
        directions = torch.randn(FEATURES, lm.d_model) / lm.d_model**0.5
        hook = f"blocks.{layer}.hook_resid_post"
        coder = AffineCoder(
            W_enc=directions.T.contiguous(),
            b_enc=torch.zeros(FEATURES),
            W_dec=directions,
            b_dec=torch.zeros(lm.d_model),
            rule=TopKRule(32),
        )
        name = f"topk-{layer}"
        made[name] = Dictionary(
            name, *single_sites(hook, hook, coder), "topk", "random", f"{layer:064d}", coder
        )
    return made


def _real(folder: Path) -> Case:
    lm = LanguageModel.load(str(folder / "stories3m"), choose_placement("cpu"))
    return Case("stories3m", lm, _loaded(sorted(folder.glob("sae-stories3m-resid*")), lm))


def _demo() -> Case | None:
    model = next(iter(sorted(DEMO.glob("**/config.json"))), None)
    if model is None:
        return None
    lm = LanguageModel.load(str(model.parent), choose_placement("cpu"))
    folders = sorted(path.parent for path in DEMO.glob("**/cfg.json") if "resid" in str(path))
    return Case("demo", lm, _loaded(folders, lm))


def _loaded(folders: list[Path], lm: LanguageModel) -> dict[str, Dictionary]:
    placement = choose_placement("cpu")
    return {
        folder.name: load(str(folder), name=folder.name, placement=placement, width=lm.width)
        for folder in folders
    }
