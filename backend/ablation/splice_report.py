"""Splice losses of several dictionaries on given prompts, as plain data."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from backend.ablation.ablation_requests import MAX_DETAILED_PROMPTS, PromptCase, check_prompt_cases
from backend.ablation.prompt_ablation import AblationProgress
from backend.ablation.prompt_targets import prepare_prompts
from backend.ablation.splice import measure_splice
from backend.engine import LocalEngine
from feature_store.errors import InputError, pick_by_name


def splice_losses_by_dictionary(
    engine: LocalEngine,
    cases: Sequence[PromptCase],
    names: Sequence[str],
    tick: AblationProgress | None = None,
) -> dict[str, Any]:
    """Return the next-token losses with each dictionary spliced into the model, as plain data.

    Raises InputError for an unknown dictionary, and for prompts without a token to predict.
    """
    check_prompt_cases(cases, MAX_DETAILED_PROMPTS)
    if not names:
        raise InputError("Pick at least one dictionary.")
    targeted = prepare_prompts(engine, cases)
    judged = targeted.prompts.counted[:, :-1] & targeted.prompts.real[:, 1:]
    if not judged.any():
        raise InputError("There is no token to predict. Give a prompt of several tokens.")
    rows = []
    for number, name in enumerate(names, 1):
        one = pick_by_name("dictionary", name, engine.dictionaries)
        found = measure_splice(engine.lm, one, targeted.prompts)
        shares = {"recovered_zero": found.recovered_zero, "recovered_mean": found.recovered_mean}
        known = {key: value if value == value else None for key, value in shares.items()}
        rows.append(
            {"dictionary": name, "hook": " + ".join(one.write_hooks), **asdict(found), **known}
        )
        if tick:
            tick(number, len(names))
    return {"rows": rows, "n": len(targeted), "tokens": int(judged.sum())}
