"""Say how long work will take on this machine, before it begins."""

from typing import TYPE_CHECKING

import streamlit as st

from app import session
from app.session import Place
from app.wording import THIN, measure
from feature_store.model_speeds import ModelSpeed

if TYPE_CHECKING:
    from backend.model.run_token_counts import RunTokenCounts

WORTH_SAYING_S = 20.0
"""Shorter work is not announced."""
CHARACTERS = 4.0
"""Of a token, where a text has not been tokenised yet."""


def count_tokens_roughly(text: str) -> int:
    """Return about how many tokens a text has."""
    return 1 + round(len(text) / CHARACTERS)


def describe_duration(seconds: float) -> str:
    """Write a duration in the largest unit that leaves a number above one: `12 min`, `3.5 h`."""
    for unit, size in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{measure(seconds / size, 2)}{THIN}{unit}"
    return f"{measure(seconds, 2)}{THIN}s"


def describe_estimate(work: "RunTokenCounts", speed: ModelSpeed | None) -> str:
    """Return a sentence on how long work will take; empty where that is not worth saying."""
    if speed is None:
        return "How long this takes is not known yet: the model has not run on this machine."
    seconds = work.estimate_seconds(speed)
    if seconds is None or seconds < WORTH_SAYING_S:
        return ""
    rates = f"reads about {measure(speed.read, 2)} tokens a second of this model"
    if work.written and speed.write:
        rates += f" and writes {measure(speed.write, 2)}"
    return f"About {describe_duration(seconds)} on this machine, which {rates} (measured)."


def draw_estimate(place: Place, work: "RunTokenCounts") -> None:
    """Draw the sentence under the button that begins the work."""
    speed = session.store().speeds.find(place.file.record.model_hash)
    if said := describe_estimate(work, speed):
        st.caption(said)
