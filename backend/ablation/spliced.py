"""Dictionaries in the model's place on some prompts, as plain data."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from backend.ablation.asked import AT_ONCE, Case, check_cases
from backend.ablation.laying import lay_out
from backend.ablation.splice import splice
from backend.ablation.trial import Tick
from backend.engine import LocalEngine
from feature_store.errors import InputError, pick


def spliced(
    engine: LocalEngine, cases: Sequence[Case], names: Sequence[str], tick: Tick | None = None
) -> dict[str, Any]:
    """What the prompts cost with each dictionary: mean next-token loss, nats. InputError for no
    token to predict, and for unknown dictionaries."""
    check_cases(cases, AT_ONCE)
    if not names:
        raise InputError("Pick at least one dictionary.")
    laid = lay_out(engine, cases)
    judged = laid.prompts.counted[:, :-1] & laid.prompts.real[:, 1:]
    if not judged.any():
        raise InputError("There is no token to predict. Give a prompt of several tokens.")
    rows = []
    for number, name in enumerate(names, 1):
        one = pick("dictionary", name, engine.dictionaries)
        found = splice(engine.lm, one, laid.prompts)
        shares = {"recovered_zero": found.recovered_zero, "recovered_mean": found.recovered_mean}
        known = {key: value if value == value else None for key, value in shares.items()}
        rows.append({"dictionary": name, "hook": one.hook_out, **asdict(found), **known})
        if tick:
            tick(number, len(names))
    return {"rows": rows, "n": len(laid), "tokens": int(judged.sum())}
