"""What an ablation did: the target before and after, each part's share, every token."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from app import components, session
from app.ablate.inputs import meaning
from app.session import Place
from app.tokens import visible
from app.wording import ABSENT, measure, plural, share, signed
from backend.ablation.model_parts import ModelPart
from feature_store.errors import InputError

PROMPTS, STRIP, PARTS, SIDES = "ablate_rows", "ablate_strip", "ablate_effects", "ablate_sides"
TARGETS = {
    "logit_diff": "logit difference",
    "log_prob": "log probability of the answer",
}
TAIL = 60
"""Characters of a prompt's end in the list."""


def draw(place: Place, result: Mapping[str, Any]) -> None:
    """The numbers, the prompts where there are several, and one prompt's tokens."""
    left, right = st.columns([1, 1], gap="medium")
    with left:
        sides(result)
    with right:
        effects(place, result)
    chosen = prompts(place, result) if len(result["prompts"]) > 1 else 0
    tokens(place, result["prompts"][chosen])


def sides(result: Mapping[str, Any]) -> None:
    """Clean, ablated, and the difference."""
    clean, ablated = result["clean"], result["ablated"]
    rows = []
    for name, field in ((TARGETS[result["target"]], "value"), ("loss, nats a token", "loss")):
        a, b = clean[field], ablated[field]
        change = ABSENT if a is None or b is None else signed(b - a, 3)
        rows.append([name, measure(a), measure(b), change])
    told = f"mean of {plural(result['n'], 'prompt')}" if result["n"] > 1 else "one prompt"
    grid(SIDES, [(told, ""), ("clean", "number"), ("ablated", "number"), ("Δ", "number")], rows)
    st.caption(session.literal(summary(result)))


def summary(result: Mapping[str, Any]) -> str:
    """What is left of the target, in words."""
    clean, ablated = result["clean"]["value"], result["ablated"]["value"]
    said = "Logits and log probabilities in nats, at the target's position."
    if result["target"] == "logit_diff" and clean > 0:
        return f"{share(1 - ablated / clean)} of the difference is gone. {said}"
    return said


def effects(place: Place, result: Mapping[str, Any]) -> None:
    """Each part alone, and all together."""
    rows, several = [], len(result["features"]) > 1
    for one in result["features"]:
        label = told(place, one["part"])
        rows.append((one["part"], [one["part"], label, signed(one["effect"], 3)]))
    if several:
        total = sum(one["effect"] for one in result["features"])
        rows.append(("", ["together", "", signed(result["joint"], 3)]))
        rows.append(("", ["sum of the single effects", "", signed(total, 3)]))
    heads = [("part", ""), ("", ""), ("effect on the target", "number")]
    data = {
        "ruled": False,
        "columns": [{"name": n, "kind": k, "hint": ""} for n, k in heads],
        "rows": [{**link(place, part), "cells": cells, "notes": []} for part, cells in rows],
    }
    components.rows(key=PARTS, data=data, on_go_change=components.ignore)
    if target := (st.session_state.get(PARTS) or {}).get("go"):
        st.switch_page(session.FEATURE, query_params={**place.query, "feature": target})


def told(place: Place, part: str) -> str:
    """A feature's label or tokens; nothing for other parts, nor where it is not there."""
    feature = ModelPart.parse(part).feature
    try:
        return meaning(place, place.file.check_feature(feature)) if feature else ""
    except InputError:
        return ""


def link(place: Place, part: str) -> dict[str, Any]:
    """Where a part's row leads: a feature's page."""
    feature = ModelPart.parse(part).feature if part else None
    if feature is None or feature.dictionary not in place.file.dictionaries:
        return {"href": "", "target": None}
    query = {"harvest": place.file.record.id, "feature": part}
    return {"href": session.href(session.FEATURE, query), "target": part}


def grid(key: str, heads: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> None:
    """A small table of texts."""
    data = {
        "ruled": False,
        "columns": [{"name": name, "kind": kind, "hint": ""} for name, kind in heads],
        "rows": [{"href": "", "target": None, "cells": list(row), "notes": []} for row in rows],
    }
    components.rows(key=key, data=data, on_go_change=components.ignore)


def prompts(place: Place, result: Mapping[str, Any]) -> int:
    """The list of prompts; gives the one that is looked at."""
    text = place.file.vocabulary.text
    lines = []
    for one in result["prompts"]:
        whole = "".join(place.file.vocabulary.display(np.array(one["tokens"][: one["at"] + 1])))
        clean, ablated = one["clean"], one["ablated"]
        lines.append(
            {
                "prompt": "…" + visible(whole)[-TAIL:],
                "answer": visible(text(one["answer"])),
                "wrong": visible(text(one["wrong"])) if one["wrong"] is not None else "",
                "clean": clean["value"],
                "ablated": ablated["value"],
                "change": ablated["value"] - clean["value"],
                "loss": None if clean["loss"] is None else ablated["loss"] - clean["loss"],
            }
        )
    number = st.column_config.NumberColumn
    picked = st.dataframe(
        lines,
        key=PROMPTS,
        hide_index=True,
        row_height=28,
        on_select="rerun",
        lazy=False,
        selection_mode="single-row",
        height=min(39 + 28 * len(lines), 214),
        placeholder=ABSENT,
        column_config={
            "prompt": st.column_config.TextColumn("prompt", width="large"),
            "clean": number("clean", format="%.2f"),
            "ablated": number("ablated", format="%.2f"),
            "change": number("Δ target", format="%+.2f", help="ablated less clean, nats"),
            "loss": number("Δ loss", format="%+.3f", help="mean over its tokens, nats a token"),
        },
    )
    rows = picked["selection"]["rows"]
    return rows[0] if rows and rows[0] < len(lines) else 0


def tokens(place: Place, one: Mapping[str, Any]) -> None:
    """One prompt: Δ loss and KL on its tokens, probabilities behind any of them."""
    vocabulary = place.file.vocabulary
    texts = vocabulary.display(np.array(one["tokens"]))
    loss = [None] + [b - a for a, b in zip(one["loss"], one["loss_ablated"], strict=True)]
    marks = {one["answer"]: "answer", one["wrong"]: "wrong"}
    moved = [
        [
            {
                "text": visible(vocabulary.text(token)),
                "before": before,
                "after": after,
                "mark": marks.get(token, "") if at == one["at"] else "",
            }
            for token, before, after in moves
        ]
        for at, moves in enumerate(one["moved"])
    ]
    data = {
        "tokens": [
            {"text": visible(text), "id": token, "counted": counted, "breaks": "\n" in text}
            for text, token, counted in zip(texts, one["tokens"], one["counted"], strict=True)
        ],
        "loss": loss,
        "kl": one["kl"],
        "at": one["at"],
        "moved": moved,
        "largest": {"loss": largest(loss), "kl": largest(one["kl"])},
    }
    components.ablated(key=STRIP, data=data)


def largest(values: Sequence[float | None]) -> float:
    """The largest size, which has the full colour."""
    return max((abs(value) for value in values if value is not None), default=0.0)
