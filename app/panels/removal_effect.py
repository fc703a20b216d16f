"""The panel "Effect of removing it": the change of loss and predictions when the feature is ablated
in its strongest contexts, computed at the first visit and kept in the catalog."""

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
"""Number of contexts that are measured: the strongest, each from a different document."""
TOKENS_BEFORE_PEAK = 7
"""Tokens shown before the peak."""
MAX_CHANGED_TOKENS = 5
SMALL_NATS = 1e-4
"""Differences below this many nats in one context are shown with four decimals."""
EffectsByContext = dict[tuple[int, int, int], RemovalEffect]


@st.fragment
def draw(panel: PanelContext) -> None:
    """Draw the mean change of loss over the strongest contexts, and one line for each context."""
    contexts = select_strongest_contexts(panel.contexts)
    try:
        found, problem = read_saved_effects(panel)
        missing = [
            context for context in contexts if removal_effects.context_key(context) not in found
        ]
        if missing:
            engine = live.ready(panel.place.file, [panel.place.info.dictionary])
            if engine is None:
                return
            found, problem = measure_missing_effects(engine, panel, missing, found, problem)
    except InputError as error:
        st.markdown(f":orange[{session.literal(str(error))}]")
        return
    pairs = [(context, found[removal_effects.context_key(context)]) for context in contexts]
    st.markdown(session.literal(summarize_effects([one for _, one in pairs])))
    st.caption(
        "The feature is set to zero at every counted token of the sequence; the error term stays, "
        "and BOS and special tokens are unchanged. Δ loss is ablated minus clean, in nats: above "
        "zero, the feature helped the prediction."
    )
    components.effects(
        key="effect_lines", data={"lines": [make_effect_line(panel, *pair) for pair in pairs]}
    )
    if problem:
        st.caption(f":orange[Computed, but not saved: {session.literal(problem)}]")


def select_strongest_contexts(contexts: Sequence[Context]) -> list[Context]:
    """Return the contexts with the largest activation magnitude, of both signs, one a document."""
    best: dict[int, Context] = {}
    for context in sorted(contexts, key=lambda c: -abs(c.value)):
        if context.stratum != "range":
            best.setdefault(context.document, context)
    return list(best.values())[:MAX_CONTEXTS]


def read_saved_effects(panel: PanelContext) -> tuple[EffectsByContext, str]:
    """Return the removal effects that the catalog holds, and why the catalog could not be read, if
    so."""
    catalog, harvest = session.store().catalog, panel.place.file.record.id
    try:
        return removal_effects.read_removal_effects(
            catalog, harvest, panel.id, patience_s=READ_PATIENCE_S
        ), ""
    except InputError as error:
        return {}, str(error)


def measure_missing_effects(
    engine: live.Engine,
    panel: PanelContext,
    missing: list[Context],
    found: EffectsByContext,
    problem: str,
) -> tuple[EffectsByContext, str]:
    """Measure the effects of contexts that the catalog lacks and save them.

    Returns `found` with the new effects, and why they could not be saved, if so.
    """
    said, new = st.empty(), []
    catalog, file = session.store().catalog, panel.place.file
    for number, context in enumerate(missing, 1):
        said.caption(f"Running the model without the feature: context {number} of {len(missing)}…")
        tokens = file.sequences.tokens(context.sequence)
        new.append(engine.measure_removal(panel.id, context, tokens))
    said.empty()
    try:
        removal_effects.save_removal_effects(
            catalog, file.record.id, panel.id, new, patience_s=WRITE_PATIENCE_S
        )
    except InputError as error:
        problem = str(error)
    return found | {one.key: one for one in new}, problem


def summarize_effects(found: Sequence[RemovalEffect]) -> str:
    """Return one sentence with the mean changes of loss and their confidence intervals."""
    after = [one.next_loss for one in found if one.next_loss is not None]
    window = [one.window_loss for one in found]
    return (
        f"Δ loss without the feature, mean over its {plural(len(found), 'strongest window')}, "
        f"one a document: at the token after the peak {describe_mean_loss(after)}; "
        f"over the whole window {describe_mean_loss(window)}."
    )


def describe_mean_loss(values: Sequence[float]) -> str:
    """Return the mean of loss changes in nats, with its 95 % t interval and n."""
    if not values:
        return "– (every sequence ends at the peak)"
    found = estimate_student_mean(np.asarray(values))
    said = f"{signed(found.number)} nats"
    if found.low is None or found.high is None:
        return f"{said} (n 1: no interval)"
    return f"{said} [{signed(found.low)}, {signed(found.high)}] (95 % t interval, n {found.n})"


def make_effect_line(
    panel: PanelContext, context: Context, one: RemovalEffect
) -> dict[str, object]:
    """Return the removal effect of one context as the component takes it."""
    file = panel.place.file
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
    """Format a signed difference in nats: two significant digits, and no more than four
    decimals."""
    small = 0 < abs(value) < SMALL_NATS
    return f"{value:+.4f}".replace("-", "−") if small else signed(value)


def format_percent(probability: float) -> str:
    """Format a probability in per cent with two digits, or as "<0.01 %" where it is smaller."""
    return f"{measure(100 * probability, 2)} %" if probability >= 1e-4 else "<0.01 %"
