"""What the model would say next at a token, as it is and with the edits."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from app.steer.run import started
from app.steering import Setting
from app.tokens import visible
from backend.live import Engine
from feature_store.errors import InputError
from feature_store.vocabulary import Vocabulary

if TYPE_CHECKING:
    from backend.engine import LocalEngine

SHOWN = 15
Row = tuple[int, float, float]
"""Token, its probability in the clean model, its probability with the edits."""


@st.cache_data(show_spinner=False, max_entries=64)
def likeliest(
    _engine: Engine, _setting: Setting, tokens: tuple[int, ...], asked: str, model: str
) -> tuple[list[Row], float | None]:
    """The 15 tokens that either finds likeliest behind `tokens`, largest first, and KL in nats.

    `asked` and `model` stand for what is not hashed: the setting as JSON, the weights' hash.
    """
    from backend.engine import LocalEngine

    assert isinstance(_engine, LocalEngine)
    return read(_engine, _setting, tokens)


def read(
    engine: "LocalEngine", setting: Setting, tokens: tuple[int, ...]
) -> tuple[list[Row], float | None]:
    """One forward pass, under the edits and without them."""
    import torch

    from backend.interventions.once import run_once
    from backend.interventions.plan import compile_edits

    start = started(engine, setting)
    with torch.inference_mode():
        plan = compile_edits(
            engine.lm, engine.dictionaries, [setting.edits], freeze=setting.freeze, guard=True
        )
        n = min(len(start.tokens), len(tokens))
        found = run_once(plan, [list(tokens)], n_prompt=n, roles=start.roles)
        steered = found.logits[0, -1].float().softmax(-1)
        clean = steered if found.clean is None else found.clean[0, -1].float().softmax(-1)
        best = torch.maximum(clean, steered).topk(min(SHOWN, len(clean))).indices
        rows = zip(best.tolist(), clean[best].tolist(), steered[best].tolist(), strict=True)
        kl = None if found.kl is None or not setting.edits else float(found.kl[0, -1])
        return list(rows), kl


def table(
    engine: Engine, setting: Setting, model: str, data: dict[str, Any], at: dict[str, Any],
    vocabulary: Vocabulary,
) -> dict[str, Any] | None:  # fmt: skip
    """For the component: the distribution that the chosen token was drawn from; None for what is
    no token of the story. InputError where the model cannot read it."""
    row = data["rows"].get(at.get("row"))
    position = at.get("position")
    if row is None or not isinstance(position, int):
        return None
    whole = [*data["prompt"]["tokens"], *row["tokens"]]
    if not 0 < position < len(whole):
        return None
    key = str(setting.to_json())
    rows, kl = likeliest(engine, setting, tuple(whole[:position]), key, model)
    return {
        "position": position,
        "row": at["row"],
        "kl": kl,
        "drawn": whole[position],
        "steered": bool(setting.edits),
        "rows": [[visible(vocabulary.text(token)), token, p, q] for token, p, q in rows],
    }


def attempt(*given: Any) -> dict[str, Any] | None:
    """`table`, or the sentence that says why there is none."""
    try:
        return table(*given)
    except InputError as error:
        return {"error": str(error)}
