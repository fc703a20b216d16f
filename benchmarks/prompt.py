"""What the model's side of the Prompt page costs: a text under every dictionary of the demo."""

import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.goals import Goal, table

TOKENS = 100
GOAL_MS = 300.0


def measure(repeats: int) -> dict[str, Any]:
    """Medians of CPU milliseconds on one thread, after a first run that is not counted."""
    import torch

    from backend import demo
    from backend.dictionaries import load
    from backend.engine import LocalEngine
    from backend.model.device import choose_placement
    from backend.model.language_model import LanguageModel

    torch.set_num_threads(1)
    placement = choose_placement("cpu")
    lm = LanguageModel.load(str(demo.MODEL), placement)
    found = {f.name: load(str(f), name=f.name, placement=placement) for f in demo.DICTIONARIES}
    engine = LocalEngine(lm, found, bos=lm.bos)
    words = " ".join(document.text for document in demo.demo_documents(seed=1, documents=20))
    text = engine.text(engine.read(engine.cut_to_context(words)).token_ids[:TOKENS])
    typed = str(lm.tokenizer.decode(text.token_ids, skip_special_tokens=True))
    names, last = list(found), TOKENS - 1
    columns = [
        [one.position.tolist(), one.feature.tolist(), one.value.tolist()]
        for one in engine.compute_activations(text, names).values()
    ]
    parts: dict[str, Callable[[], object]] = {
        "tokenise": lambda: engine.read(typed),
        "activations": lambda: engine.compute_activations(text, names),
        "as_json": lambda: json.dumps(columns),
        "lens": lambda: engine.lens_rows(text),
        "toward": lambda: engine.attribute_logit(
            text, names, engine.predict_next_tokens(text, last, 1)[0][0], last
        ),
    }
    times = {name: cpu_ms(part, repeats) for name, part in parts.items()}
    nonzero = sum(len(one[0]) for one in columns)
    return {"tokens": TOKENS, "dictionaries": len(names), "nonzero": nonzero, **times}


def cpu_ms(part: Callable[[], object], repeats: int) -> float:
    """The median of several runs after one."""
    part()
    found = []
    for _ in range(repeats):
        begin = time.process_time()
        part()
        found.append(1000 * (time.process_time() - begin))
    return median(found)


def plain_ms(facts: dict[str, Any]) -> float:
    """The answer to a text: its activations under all dictionaries, ready to be sent."""
    return facts["tokenise"] + facts["activations"] + facts["as_json"]


def report(facts: dict[str, Any]) -> str:
    """The parts, and what a page with everything on asks for."""
    rows = [
        ["tokenise", facts["tokenise"]],
        ["activations, all dictionaries", facts["activations"]],
        ["as JSON", facts["as_json"]],
        ["logit lens, every layer", facts["lens"]],
        ["gradient × activation toward a token", facts["toward"]],
        ["all of it", plain_ms(facts) + facts["lens"] + facts["toward"]],
    ]
    title = (
        f"A prompt of {facts['tokens']} tokens under {facts['dictionaries']} dictionaries "
        f"({facts['nonzero']:,} non-zero), cpu-ms on one thread"
    )
    return table(title, ["", "cpu-ms"], rows)


def goals(facts: dict[str, Any]) -> list[Goal]:
    """Quick, with and without everything that can be switched on."""
    whole = plain_ms(facts) + facts["lens"] + facts["toward"]
    return [
        Goal("prompt of 100 tokens, 12 dictionaries", plain_ms(facts), GOAL_MS, " cpu-ms"),
        Goal("… with logit lens and gradients", whole, GOAL_MS, " cpu-ms"),
    ]
