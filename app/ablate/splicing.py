"""Each dictionary in the model's place: what the text costs, how much of the loss is recovered."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import session
from app.ablate.outcome import grid
from app.ablate.setting import key, opened
from app.session import Place
from app.wording import ABSENT, count, measure, plural, share, signed
from feature_store.null_dictionaries import list_model_dictionaries

HEADS = [
    ("dictionary", ""),
    ("hook", "code"),
    ("clean", "number"),
    ("with error", "number"),
    ("spliced", "number"),
    ("Δ", "number"),
    ("mean", "number"),
    ("zero", "number"),
    ("recovered vs mean", "number"),
    ("recovered vs zero", "number"),
]


def controls(place: Place) -> dict[str, Any]:
    """Which dictionaries."""
    names = list_model_dictionaries(place.file)
    first, version = opened("splice")
    asked = [name for name in first.get("dictionaries", names) if name in names]
    on = st.multiselect("Dictionaries", names, asked, key=key(f"splice_on{version}"))
    return {"on": on}


def draw(place: Place, result: Mapping[str, Any]) -> None:
    """A row for each dictionary."""
    rows = [
        [
            one["dictionary"],
            one["hook"],
            *(measure(one[name]) for name in ("clean", "with_error", "without_error")),
            signed(one["without_error"] - one["clean"]),
            *(measure(one[name]) for name in ("mean", "zero")),
            *(recovered(one[name]) for name in ("recovered_mean", "recovered_zero")),
        ]
        for one in result["rows"]
    ]
    grid("ablate_spliced", HEADS, rows)
    st.caption(
        session.literal(
            f"Cross-entropy in nats a token, {count(result['tokens'])} predictions behind counted "
            f"tokens of {plural(result['n'], 'prompt')}. With error: reconstruction and error term "
            "together, the model itself but for rounding. Mean and zero: the whole stream at the "
            "hook replaced so; recovered: how much of the way from there to the clean model the "
            "reconstruction comes. Few tokens make it rough: the harvest's self-check has many."
        )
    )


def recovered(value: float | None) -> str:
    """A share; a dash where the replacement costs nothing."""
    return ABSENT if value is None else share(value)
