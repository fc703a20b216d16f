"""What features of the demo do: some steered against matched controls, name features ablated.

The steered ones were chosen by reading the contexts of features that a first look, with other
prompts and seeds, had shown to move anything. Those ablated were chosen by a rule about contexts
alone (at least half of the strongest windows peak on a person's name), whose bound was settled on
training prompts; the prompts here are from templates that the demo was not trained on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backend.ablation.ablation_requests import AblationRequest, PromptCase
from backend.ablation.dataset_ablation import ablate_dataset
from backend.ablation.model_parts import ModelPart
from backend.demo import task_prompts
from backend.demo.word_lists import NAMES
from backend.engine import LocalEngine
from backend.generation.prompt_tokenization import tokenize_text
from backend.generation.records import SamplingSettings
from backend.interventions.records import Edit
from backend.model.device import choose_placement
from backend.steering.matched_controls import control_with_matched_features
from backend.steering.strength_sweep import SweepRequest, run_sweep
from benchmarks.goals import Goal, table
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from feature_store.store import Store


@dataclass(frozen=True)
class Chosen:
    """A feature to steer by, and what its contexts show."""

    feature: FeatureId
    contexts: str


STEERED = (
    Chosen(FeatureId("resid-3", 496), "the food in “People in Vienna like …”"),
    Chosen(FeatureId("resid-3", 321), "words of a list without sense, “Now write goat …”"),
    Chosen(FeatureId("resid-3", 240), "the weather in “It was a freezing …”"),
    Chosen(FeatureId("resid-3", 221), "nouns in a list without sense"),
    Chosen(FeatureId("resid-2", 322), "the quote that closes a format string"),
)
DOSES = (0.4, 0.6, 0.8, 1.0, 1.2)
"""Of the feature's maximum."""
PROMPTS = ("The", "In May", "Nobody", "Someone")
SEEDS, CONTROL_SEEDS, TOKENS = 26, 4, 30
CONTROLS, SETS, CASES = 30, 100, 200
NAMED = ("resid-0", "resid-1", "resid-2")
"""Dictionaries of one stream, cut three times: a name that is read again later is removed again."""
MOSTLY = 0.5


def measure(store: Path, *, quick: bool = False) -> dict[str, Any]:
    """Both experiments, on the newest harvest of the demo's store."""
    kept = Store(store)
    file = kept.harvest()
    engine = LocalEngine.load(file, kept.places.read_all(), choose_placement("cpu"))
    few = STEERED[:1] if quick else STEERED
    return {
        "steered": [steered(engine, file, one, quick=quick) for one in few],
        "ablated": ablated(engine, file, quick=quick),
    }


def steered(
    engine: LocalEngine, file: HarvestFile, chosen: Chosen, *, quick: bool
) -> dict[str, Any]:
    """The feature's rate in continuations that the clean model reads again, at several doses."""
    edit = Edit("add", (chosen.feature,))
    top = file.facts(chosen.feature).max_act or 0.0
    seeds, few = (2, 1) if quick else (SEEDS, CONTROL_SEEDS)
    ask = SweepRequest(
        (edit,),
        tuple(top * dose for dose in DOSES),
        tuple(tokenize_text(engine.lm, text, bos=engine.bos is not None) for text in PROMPTS),
        tuple(range(seeds)),
        SamplingSettings(max_new=TOKENS),
        concept=chosen.feature,
        control_seeds=few,
    )
    controls = control_with_matched_features(edit, file, 3 if quick else CONTROLS)
    found = run_sweep(engine.lm, engine.dictionaries, ask, [controls], bos=engine.bos)
    default = found.default.estimate("rate")
    bands = found.at_equal_kl("features", "rate")
    doses = []
    for dose, band in zip(found.doses, bands, strict=True):
        rate = dose.estimate("rate")
        assert rate is not None and default is not None, "every text has a rate"
        doses.append(
            {
                "strength": dose.strength,
                "rate": rate.value,
                "low": rate.low,
                "high": rate.high,
                "n": rate.n,
                "kl": dose.mean("kl"),
                "times": rate.number / max(default.number, 1e-9),
                "band": None if band is None else (band.low, band.high, band.n),
                "matched": None
                if (at := found.at_equal_shift("features", "rate")[len(doses)]) is None
                else (at.low, at.high, at.n),
            }
        )
    assert default is not None
    return {
        "feature": str(chosen.feature),
        "contexts": chosen.contexts,
        "doses": doses,
        "default": (default.value, default.low, default.high, default.n),
        "note": " ".join(controls.notes),
    }


def name_features(file: HarvestFile) -> list[FeatureId]:
    """Features most of whose strongest windows peak on a name; by their contexts alone."""
    names = {*NAMES, *(f" {name}" for name in NAMES)}
    found = []
    for dictionary in NAMED:
        table = file.rows(
            "SELECT feature, token_ids[peak + 1] AS token FROM context JOIN sequence USING "
            "(sequence) WHERE dictionary = ? AND stratum = 'top' ORDER BY feature",
            [dictionary],
        )
        features = table["feature"].to_numpy()
        text = file.vocabulary.text
        named = np.array([text(token) in names for token in table["token"].to_pylist()])
        for feature in np.unique(features):
            if named[features == feature].mean() >= MOSTLY:
                found.append(FeatureId(dictionary, int(feature)))
    return found


def ablated(engine: LocalEngine, file: HarvestFile, *, quick: bool) -> dict[str, Any]:
    """The indirect-object logit difference without the name features, and without matched sets."""
    features = name_features(file)
    cases = tuple(
        PromptCase(prompt.prompt, prompt.answer, prompt.wrong)
        for prompt in task_prompts("indirect_object", "held_out", 20 if quick else CASES, 0)
    )
    parts = tuple(ModelPart("feature", one.dictionary, one.index) for one in features)
    answer = ablate_dataset(engine, AblationRequest(cases, parts, controls=2 if quick else SETS))
    null = answer["null"]
    return {
        "features": [str(one) for one in features],
        **{name: answer[name] for name in ("n", "clean", "ablated", "effect", "removed")},
        "null": None if null is None else {k: v for k, v in null.items() if k != "sets"},
    }


def goals(facts: dict[str, Any]) -> list[Goal]:
    """Issue figures: three times the rate at one nat, above the band; half of the difference."""
    found = []
    for one in facts["steered"]:
        best = max(
            (dose for dose in one["doses"] if dose["kl"] <= 1.0), key=lambda dose: dose["times"]
        )
        note = f"strength {best['strength']:g}, KL {best['kl']:.2f} nats/token, n {best['n']}"
        found.append(Goal(f"rate of {one['feature']} ÷ default", best["times"], 3, "×", True, note))
        if best["band"]:
            top, n = best["band"][1:]
            above = best["low"] / max(top, 1e-9)
            found.append(
                Goal(f"… its lower bound ÷ the band's top at equal KL ({n})", above, 1, "×", True)
            )
    one = facts["ablated"]
    if one["removed"]:
        found.append(
            Goal(
                "indirect-object difference removed",
                one["removed"]["low"],
                0.5,
                at_least=True,
                note="lower bound",
            )
        )
    if one["null"]:
        size = abs(one["effect"]["value"]) / max(one["null"]["percentile_95"], 1e-9)
        found.append(Goal("… ÷ the null's 95th percentile", size, 1, "×", at_least=True))
    return found


def report(facts: dict[str, Any]) -> str:
    """Two tables."""
    lines = []
    for one in facts["steered"]:
        value, low, high, n = one["default"]
        rows = [
            [
                d["strength"],
                d["rate"],
                span(d["low"], d["high"]),
                d["times"],
                d["kl"],
                d["n"],
                span(*d["band"][:2]) if d["band"] else "–",
                span(*d["matched"][:2]) if d["matched"] else "–",
            ]
            for d in one["doses"]
        ]
        title = (
            f"{one['feature']} ({one['contexts']}): rate {value:.4f} {span(low, high)} by default, "
            f"n = {n}\n  {one['note']}"
        )
        columns = ["added", "rate", "95 %", "×", "KL", "n", "band, equal KL", "band, equal ‖Δh‖"]
        lines.append(table(title, columns, rows))
    one = facts["ablated"]
    rows = [
        [name, one[name]["value"], span(one[name]["low"], one[name]["high"])]
        for name in ("clean", "ablated", "effect", "removed")
        if one[name]
    ]
    title = f"Indirect objects without {len(one['features'])} name features, n = {one['n']} prompts"
    lines.append(table(title, ["logit difference", "mean", "95 %"], rows))
    if one["null"]:
        null = one["null"]
        lines.append(
            f"  null: {null['note']}; 95th percentile {null['percentile_95']:.3f}, as large "
            f"{null['as_large']} of {null['n']}"
        )
    return "\n".join(lines)


def span(low: float | None, high: float | None) -> str:
    """An interval."""
    return "–" if low is None or high is None else f"{low:.3g} to {high:.3g}"
