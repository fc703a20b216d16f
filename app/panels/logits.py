"""Tokens whose logits the feature's decoder raises and lowers most."""

from itertools import zip_longest

import streamlit as st

from app import components
from app.panels.subject import Subject
from app.tokens import visible
from app.wording import signed

TITLE = "Direct effect on logits"
SHOWN = 7
HINT = "direct path, per unit of activation, at norm scale 1; centred over the vocabulary"
COLUMNS = [
    ("promotes", "token"),
    ("logits", "number"),
    ("suppresses", "token"),
    ("logits", "number"),
]


def draw(subject: Subject) -> None:
    """Two lists of tokens with their values, side by side."""
    facts = subject.facts
    if facts.promoted_tokens is None or facts.suppressed_tokens is None:
        st.caption("Not defined for this hook point.")
        return
    up = pairs(subject, facts.promoted_tokens, facts.promoted_values or [])
    down = pairs(subject, facts.suppressed_tokens, facts.suppressed_values or [])
    both = zip_longest(up, down, fillvalue=("", ""))
    data = {
        "ruled": False,
        "columns": [{"name": name, "kind": kind, "hint": HINT} for name, kind in COLUMNS],
        "rows": [{"target": None, "cells": [*one, *other], "notes": []} for one, other in both],
    }
    components.rows(key="feature_logits", data=data)


def pairs(subject: Subject, tokens: list[int], values: list[float]) -> list[tuple[str, str]]:
    """The first few tokens, visible, with their values."""
    vocabulary = subject.place.file.vocabulary
    found = list(zip(tokens, values, strict=True))[:SHOWN]
    return [(visible(vocabulary.text(token)), signed(value)) for token, value in found]
