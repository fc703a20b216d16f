"""The panel "Neurons & heads": the dimensions, MLP neurons and attention heads that a feature reads
from and writes to, from its weights."""

import streamlit as st

from app import components, live, session
from app.panels import attention_sources
from app.panels.panel_context import PanelContext
from app.wording import count, signed
from backend.engine_protocol import FeatureWeights, LargestEntries, NearestNeurons
from feature_store.errors import InputError

TITLE = "Neurons & heads"


@st.fragment
def draw(panel: PanelContext) -> None:
    """Draw lists of units from the weights and, for a dictionary on attention outputs, the source
    tokens of a stored context."""
    try:
        engine = live.ready(panel.place.file, [panel.place.info.dictionary])
        if engine is None:
            return
        found = engine.weights(panel.id)
        components.ranked(key="neuron_lists", data={"columns": list_unit_columns(panel, found)})
        if found.decoder_heads is not None:
            attention_sources.draw_source_tokens(panel, engine, found.decoder_heads)
    except InputError as error:
        st.markdown(f":orange[{session.literal(str(error))}]")


def list_unit_columns(panel: PanelContext, found: FeatureWeights) -> list[dict[str, object]]:
    """Return the lists that apply to this dictionary."""
    info = panel.place.info
    lists = []
    if found.decoder_heads is not None:
        lists += [make_head_column("Heads it reads", "encoder", found.encoder_heads)]
        lists += [make_head_column("Heads it writes", "decoder", found.decoder_heads)]
    lists += [
        make_dimension_column(
            "Reads",
            f"largest encoder weights at {', '.join(info.read_hooks)}",
            found.encoder,
            found,
        ),
        make_dimension_column(
            "Writes",
            f"largest decoder weights at {', '.join(info.write_hooks)}",
            found.decoder,
            found,
        ),
        make_neuron_column(
            "Neurons that read alike", "input weights by cosine with the encoder", found.readers
        ),
        make_neuron_column(
            "Neurons that write alike", "output weights by cosine with the decoder", found.writers
        ),
    ]
    return [one for one in lists if one]


def make_head_column(title: str, side: str, shares: list[float] | None) -> dict[str, object] | None:
    """Return each head's share of the norm of the encoder or decoder direction as a list."""
    if shares is None:
        return None
    hint = f"each head's share of the {side}'s norm; {len(shares)} heads"
    top = max(shares)
    rows = [
        {"name": f"head {h}", "value": f"{100 * x:.0f} %", "length": x / top if top else 0}
        for h, x in enumerate(shares)
    ]
    return {"title": title, "hint": hint, "rows": rows}


def make_dimension_column(
    title: str, hint: str, found: LargestEntries | None, weights: FeatureWeights
) -> dict[str, object] | None:
    """Return the largest weights at a hook point as a list; at hook_z by head and dimension of the
    head."""
    if found is None:
        return None
    of = f"{hint}, of {count(found.n_entries)} dimensions"
    names = [f"dim {index}" for index in found.index]
    if weights.decoder_heads:
        d_head = found.n_entries // len(weights.decoder_heads)
        names = [f"head {index // d_head}, {index % d_head}" for index in found.index]
    return {"title": title, "hint": of, "rows": make_unit_rows(names, found)}


def make_neuron_column(
    title: str, hint: str, found: NearestNeurons | None
) -> dict[str, object] | None:
    """Return the MLP neurons nearest to the feature's direction as a list."""
    if found is None:
        return None
    of = f"{hint}, of {count(found.nearest.n_entries)} in layer {found.layer}'s MLP"
    names = [f"neuron {index}" for index in found.nearest.index]
    return {"title": title, "hint": of, "rows": make_unit_rows(names, found.nearest)}


def make_unit_rows(names: list[str], found: LargestEntries) -> list[dict[str, object]]:
    """Return names and values as the component takes them, with bar lengths relative to the
    largest."""
    top = max((abs(value) for value in found.value), default=0.0) or 1.0
    return [
        {"name": name, "value": signed(value), "length": abs(value) / top}
        for name, value in zip(names, found.value, strict=True)
    ]
