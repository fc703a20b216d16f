"""What the model predicts without the feature: computed when first looked at, kept after that."""

from collections.abc import Sequence

import numpy as np
import streamlit as st

from app import components, live, session
from app.annotations import READ_PATIENCE_S, WRITE_PATIENCE_S
from app.panels.panel_context import PanelContext
from app.tokens import visible
from app.wording import ABSENT, measure, plural, signed
from feature_store import removal_effects
from feature_store.errors import InputError
from feature_store.records import Context
from feature_store.removal_effects import RemovalEffect
from feature_store.statistics.student_t import estimate_student_mean

TITLE = "Effect of removing it"
MAX_CONTEXTS = 10
"""Contexts measured: the strongest, each from a document of its own."""
TOKENS_BEFORE_PEAK = 7
"""Tokens shown in front of the peak."""
MAX_CHANGED_TOKENS = 5
SMALL_NATS = 1e-4
"""Nats: a smaller difference of one context is as good as none."""
EffectsByContext = dict[tuple[int, int, int], RemovalEffect]


@st.fragment
def draw(subject: PanelContext) -> None:
    """The mean over the strongest contexts, and a line for each."""
    contexts = select_strongest_contexts(subject.contexts)
    try:
        found, problem = read_saved_effects(subject)
        missing = [
            context for context in contexts if removal_effects.context_key(context) not in found
        ]
        if missing:
            engine = live.ready(subject.place.file, [subject.place.info.dictionary])
            if engine is None:
                return
            found, problem = measure_missing_effects(engine, subject, missing, found, problem)
    except InputError as error:
        st.markdown(f":orange[{session.literal(str(error))}]")
        return
    pairs = [(context, found[removal_effects.context_key(context)]) for context in contexts]
    st.markdown(session.literal(summarize_effects([one for _, one in pairs])))
    st.caption(
        "Set to zero at every counted token of the sequence; the error term stays, BOS and special "
        "tokens are left alone. Δ loss in nats, removed minus as it is: above zero, the feature "
        "helped."
    )
    components.effects(
        key="effect_lines", data={"lines": [make_effect_line(subject, *pair) for pair in pairs]}
    )
    if problem:
        st.caption(f":orange[Computed, but not kept: {session.literal(problem)}]")


def select_strongest_contexts(contexts: Sequence[Context]) -> list[Context]:
    """The strongest contexts by magnitude, of both signs, one a document."""
    best: dict[int, Context] = {}
    for context in sorted(contexts, key=lambda c: -abs(c.value)):
        if context.stratum != "range":
            best.setdefault(context.document, context)
    return list(best.values())[:MAX_CONTEXTS]


def read_saved_effects(subject: PanelContext) -> tuple[EffectsByContext, str]:
    """What the catalog has, and why it could not be read, if so."""
    catalog, harvest = session.store().catalog, subject.place.file.record.id
    try:
        return removal_effects.read_removal_effects(
            catalog, harvest, subject.id, patience_s=READ_PATIENCE_S
        ), ""
    except InputError as error:
        return {}, str(error)


def measure_missing_effects(
    engine: live.Engine,
    subject: PanelContext,
    missing: list[Context],
    found: EffectsByContext,
    problem: str,
) -> tuple[EffectsByContext, str]:
    """`found` with the missing ones, and why they could not be kept, if so."""
    said, new = st.empty(), []
    catalog, file = session.store().catalog, subject.place.file
    for number, context in enumerate(missing, 1):
        said.caption(f"Running the model without it: context {number} of {len(missing)}…")
        tokens = file.sequences.tokens(context.sequence)
        new.append(engine.measure_removal(subject.id, context, tokens))
    said.empty()
    try:
        removal_effects.save_removal_effects(
            catalog, file.record.id, subject.id, new, patience_s=WRITE_PATIENCE_S
        )
    except InputError as error:
        problem = str(error)
    return found | {one.key: one for one in new}, problem


def summarize_effects(found: Sequence[RemovalEffect]) -> str:
    """The means with their intervals, in one sentence."""
    after = [one.next_loss for one in found if one.next_loss is not None]
    window = [one.window_loss for one in found]
    return (
        f"Δ loss without it, mean over its {plural(len(found), 'strongest window')}, "
        f"one a document: at the token after the peak {describe_mean_loss(after)}; "
        f"over the whole window {describe_mean_loss(window)}."
    )


def describe_mean_loss(values: Sequence[float]) -> str:
    """The mean in nats, with the 95 % t interval and n."""
    if not values:
        return "– (every sequence ends there)"
    found = estimate_student_mean(np.asarray(values))
    said = f"{signed(found.number)} nats"
    if found.low is None or found.high is None:
        return f"{said} (n 1: no interval)"
    return f"{said} [{signed(found.low)}, {signed(found.high)}] (95 % t interval, n {found.n})"


def make_effect_line(
    subject: PanelContext, context: Context, one: RemovalEffect
) -> dict[str, object]:
    """One context as the component takes it."""
    file = subject.place.file
    ids = file.sequences.tokens(context.sequence)
    begin = max(context.peak - TOKENS_BEFORE_PEAK, 0)
    texts = [visible(t) for t in file.vocabulary.display(ids[begin : context.peak + 2])]
    at = context.peak - begin
    moves = zip(one.tokens[:MAX_CHANGED_TOKENS], one.before, one.after, strict=False)
    return {
        "value": measure(context.value),
        "next": ABSENT if one.next_loss is None else format_nats(one.next_loss),
        "window": format_nats(one.window_loss),
        "hint": f"{file.documents[context.document]}, peak at position {context.peak}; "
        f"the window's Δ is a sum over {plural(one.window_n, 'prediction')}",
        "left": texts[:at],
        "peak": texts[at],
        "after": texts[at + 1] if at + 1 < len(texts) else "",
        "moved": [
            {
                "token": visible(file.vocabulary.text(token)),
                "before": format_percent(before),
                "after": format_percent(after),
            }
            for token, before, after in moves
        ],
    }


def format_nats(value: float) -> str:
    """A difference with its sign: two digits, but none behind the fourth decimal."""
    small = 0 < abs(value) < SMALL_NATS
    return f"{value:+.4f}".replace("-", "−") if small else signed(value)


def format_percent(probability: float) -> str:
    """A probability in per cent, to two digits; small ones as such."""
    return f"{measure(100 * probability, 2)} %" if probability >= 1e-4 else "<0.01 %"
