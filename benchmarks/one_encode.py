"""Forward and encode beside the libraries', interleaved in this process. Started by the others."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

TILE = 256
ROUNDING = 1e-4


def main() -> None:
    """Read the arguments, measure, write the facts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--dictionary", action="append", default=[])
    parser.add_argument("--hook", required=True)
    parser.add_argument("--layer", type=int, required=True)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.write_text(json.dumps(measure(args)), "utf-8")


@torch.inference_mode()
def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Forward to the hook, then each dictionary's encode."""
    from backend.model.device import choose_placement
    from backend.model.language_model import LanguageModel

    placement = choose_placement("cpu")
    lm = LanguageModel.load(args.model, placement)
    batches = text_batches(lm, args.context, args.rounds)
    trunk = bare_trunk(args.model, args.layer)
    ours: Callable[[Tensor], Tensor] = lambda t: lm.activations(t, [args.hook])[args.hook]  # noqa: E731
    forward = interleaved(ours, trunk, batches)
    apart = max(float((ours(t) - trunk(t)).abs().max()) for t in batches[:4])
    x = [ours(tokens)[:, 1:].flatten(0, 1).clone() for tokens in batches]
    return {
        "forward": forward | {"apart": apart},
        "encode": {Path(folder).name: encode(folder, x, placement) for folder in args.dictionary},
    }


def text_batches(lm: Any, context: int, n: int) -> list[Int[Tensor, "batch context"]]:
    """Full rows of the standard library in forward batches of the harvest's size."""
    from backend.corpus import open_corpus
    from backend.harvest.harvest_plan import HarvestPlan

    size = max(1, HarvestPlan().forward_batch // context)
    rows: list[list[int]] = []
    for document in open_corpus("stdlib"):
        ids = lm.tokenizer(document.text, add_special_tokens=False)["input_ids"]
        step = context - 1
        rows += [[lm.bos, *ids[i : i + step]] for i in range(0, len(ids) - step, step)]
        if len(rows) >= n * size:
            break
    return list(torch.tensor(rows[: n * size]).split(size))


def bare_trunk(model: str, layer: int) -> Callable[[Tensor], Tensor]:
    """The Hugging Face model cut off behind a block: nothing else is computed."""
    from transformers import AutoModelForCausalLM

    whole: Any = AutoModelForCausalLM.from_pretrained(model)
    trunk = whole.transformer.eval()
    trunk.h = trunk.h[: layer + 1]
    trunk.ln_f = torch.nn.Identity()
    return lambda tokens: trunk(tokens, use_cache=False).last_hidden_state


def encode(folder: str, x: list[Float[Tensor, "n d_in"]], placement: Any) -> dict[str, Any]:
    """Ours, sparse, beside sae-lens' dense encode, on the same activations.

    sae-lens gets whole batches, then tiles that stay in cache; its better one counts.
    """
    from sae_lens import SAE

    from backend.dictionaries import load

    ours = load(folder, placement=placement)
    theirs: Any = SAE.load_from_disk(folder, device="cpu").eval()
    whole = interleaved(ours.encode_sparse, theirs.encode, x)
    tiled = interleaved(
        ours.encode_sparse, lambda rows: [theirs.encode(tile) for tile in rows.split(TILE)], x
    )
    facts: dict[str, Any] = {"whole": whole, "tiled": tiled}
    return facts | {"speed": min(whole["speed"], tiled["speed"])} | equality(ours, theirs, x[:8])


def equality(ours: Any, theirs: Any, x: list[Float[Tensor, "n d_in"]]) -> dict[str, Any]:
    """Largest difference of an activation that both have, and tokens of another support.

    `ties` are tokens where the two only chose between values nearer than ROUNDING: sums in another
    order decide there. sae-lens in tiles against sae-lens in whole batches has them too.
    """
    found = {"apart": 0.0, "other_support": 0, "ties": 0, "their_ties": 0, "compared": 0}
    for part in x:
        token, feature, value = ours.encode_sparse(part)
        dense = theirs.encode(part)
        mine = torch.zeros_like(dense)
        mine[token.long(), feature.long()] = value
        both = (mine != 0) & (dense != 0)
        found["apart"] = max(found["apart"], float((mine - dense)[both].abs().max()))
        other, ties = supports(mine, dense)
        again = torch.cat([theirs.encode(tile) for tile in part.split(TILE)])
        found["other_support"] += other
        found["ties"] += ties
        found["their_ties"] += sum(supports(again, dense))
        found["compared"] += len(part)
    return found


def supports(a: Float[Tensor, "n d_sae"], b: Float[Tensor, "n d_sae"]) -> tuple[int, int]:
    """Tokens whose active features differ: in earnest, and only by a tie."""
    other = ties = 0
    for token in ((a != 0) != (b != 0)).any(dim=1).nonzero().flatten().tolist():
        mine = a[token][(a[token] != 0) & (b[token] == 0)].sort().values
        yours = b[token][(b[token] != 0) & (a[token] == 0)].sort().values
        tie = len(mine) == len(yours) and bool((mine - yours).abs().max() <= ROUNDING)
        ties += tie
        other += not tie
    return other, ties


def interleaved(
    ours: Callable[[Tensor], Any], theirs: Callable[[Tensor], Any], inputs: list[Tensor]
) -> dict[str, float]:
    """Median cpu-ms of both on each input in turn, and the speed ratio theirs ÷ ours.

    The first is changed every round, and three rounds warm up. The ratio is the median of the
    rounds' own ratios: neighbours in time share what else the machine does.
    """
    spent: list[tuple[float, float]] = []
    for number, x in enumerate([*inputs[:3], *inputs]):
        if number % 2:
            b = cpu_ms(theirs, x)
            a = cpu_ms(ours, x)
        else:
            a = cpu_ms(ours, x)
            b = cpu_ms(theirs, x)
        spent.append((a, b))
    spent = spent[3:]
    return {
        "ours_ms": median(a for a, _ in spent),
        "theirs_ms": median(b for _, b in spent),
        "speed": median(b / a for a, b in spent),
        "rows": inputs[0].shape[0] * (inputs[0].shape[1] if inputs[0].dtype == torch.int64 else 1),
    }


def cpu_ms(work: Callable[[Tensor], Any], x: Tensor) -> float:
    """CPU milliseconds of one call; what it returned is let go of before the clock stops."""
    began = time.process_time()
    work(x)
    return (time.process_time() - began) * 1000


if __name__ == "__main__":
    main()
