"""The table of next tokens at a chosen token, as the page's component takes it."""

from typing import Any

import streamlit as st

from app.steering import Setting
from app.tokens import visible
from backend.engine_protocol import Engine
from feature_store.errors import InputError
from feature_store.vocabulary import Vocabulary

SHOWN = 15


@st.cache_data(show_spinner=False, max_entries=64)
def likeliest(
    _engine: Engine, _setting: Setting, tokens: tuple[int, ...], asked: str, model: str
) -> tuple[list[tuple[int, float, float]], float | None]:
    """The 15 tokens that either finds likeliest behind `tokens`, and KL in nats.

    `asked` and `model` stand for what is not hashed: the setting as JSON, the weights' hash.
    """
    from backend.engine import LocalEngine
    from backend.generation.next_tokens import predict_next_tokens

    assert isinstance(_engine, LocalEngine), "texts are read in this process"
    full = _setting.asked(bos=_engine.bos is not None)
    found = predict_next_tokens(_engine.lm, _engine.dictionaries, full, tokens, SHOWN)
    return found.rows, found.kl


def table(
    engine: Engine,
    setting: Setting,
    model: str,
    data: dict[str, Any],
    at: dict[str, Any],
    vocabulary: Vocabulary,
) -> dict[str, Any] | None:
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
