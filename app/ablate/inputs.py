"""The Ablate page's fields: on what, which parts, what stands in their place."""

import streamlit as st

from app import annotations, finding, session
from app.ablate import setting
from app.ablate.setting import SOURCES, keep, key, put, value
from app.fields import uploaded
from app.session import Place
from app.wording import plural
from backend.ablation.ablation_requests import (
    MAX_DATASET_PROMPTS,
    MAX_DETAILED_PROMPTS,
    read_prompt_cases,
)
from backend.demo.dictionary_plans import MODEL_NAME
from backend.demo.task_generators import TASKS
from backend.engine_protocol import Engine
from feature_store.errors import InputError
from feature_store.feature_summaries import read_promoted_tokens
from feature_store.records import FeatureId

LARGEST = 4_000_000
"""Bytes of a file: a job's arguments and an experiment hold it whole."""
FOUND = 8
HOW = {
    "zero": "zero: the part's value is 0",
    "mean": "mean: a feature's over all counted tokens of this harvest, silent ones at 0; of any "
    "other part over the counted tokens of these prompts",
    "resample": "resample: from another of these prompts at the same position",
    "pair": "pair: from a second prompt of the same length",
}


def draw(place: Place, engine: Engine | None) -> None:
    """Prompts on the left, parts on the right."""
    left, right = st.columns([1, 1], gap="medium")
    with left:
        source(place)
    with right:
        parts(place, engine)


def source(place: Place) -> None:
    """Where the prompts come from, and the fields of that source."""
    names = [n for n in SOURCES if n != "task" or place.file.record.model == MODEL_NAME]
    if value("source") not in names:
        put(source="prompts")
    st.segmented_control(
        "Prompts from",
        names,
        key=key("source"),
        required=True,
        on_change=keep,
        format_func=SOURCES.__getitem__,
        label_visibility="collapsed",
    )
    {"prompts": typed, "task": task, "contexts": contexts, "file": file}[value("source")](place)


def typed(place: Place) -> None:
    """Prompts, what should follow, and what should not."""
    pair = value("how") == "pair"
    columns = st.columns(2 if pair else 1, gap="small")
    with columns[0]:
        st.text_area(
            "Prompts",
            key=key("prompts"),
            height=104 if not pair else 128,
            on_change=keep,
            placeholder="One prompt a line; \\n for a line break",
            label_visibility="collapsed",
        )
    if pair:
        with columns[1]:
            st.text_area(
                "Patch from",
                key=key("pairs"),
                height=128,
                on_change=keep,
                placeholder="Its partner, as many tokens long",
                label_visibility="collapsed",
            )
    with st.container(horizontal=True, gap="small"):
        for name, hint in (("answer", "the model's likeliest"), ("wrong", "none: log probability")):
            st.text_input(
                name,
                key=key(name),
                on_change=keep,
                placeholder=hint,
                help="One token behind the prompt, its space included. With both empty a line may "
                "carry its own: `prompt | answer | wrong`.",
            )


def task(place: Place) -> None:
    """A task of the demo's corpus, on templates that the model was not trained on."""
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        st.selectbox(
            "Task",
            list(TASKS),
            key=key("task"),
            on_change=keep,
            width=200,
            format_func=lambda name: name.replace("_", " "),
        )
        number("Prompts", "prompts_n", MAX_DATASET_PROMPTS)
        number("Seed", "task_seed", 10_000, low=0)
    st.caption("From held-out templates, each with a right and a tempting answer.")


def contexts(place: Place) -> None:
    """Stored contexts of a feature."""
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        st.text_input(
            "Of feature",
            key=key("of"),
            on_change=keep,
            width=220,
            placeholder="the first one chosen",
        )
        number("Contexts", "contexts_n", MAX_DETAILED_PROMPTS)
    st.caption("The strongest, one a document. The target is the token after the peak.")


def file(place: Place) -> None:
    """A file of prompts with answers."""
    held = st.session_state.get(setting.FILE)
    if held:
        st.markdown(f"{plural(len(held[1]), 'prompt')} of {session.literal(held[0])}")
        st.button("Choose another", type="tertiary", on_click=drop)
        return
    st.file_uploader(
        "Prompts", type=["jsonl"], key=key("upload"), on_change=upload, label_visibility="collapsed"
    )
    st.caption("An object a line: prompt, answer, wrong, and if you like pair and label.")


def number(label: str, name: str, high: int, low: int = 1) -> None:
    """A whole number."""
    st.number_input(label, low, high, step=1, key=key(name), on_change=keep, width=110)


def drop() -> None:
    """Callback: no file."""
    st.session_state.pop(setting.FILE, None)


def upload() -> None:
    """Callback: a file's cases, or why it has none."""
    try:
        given = uploaded(key("upload"), LARGEST)
        if given is None:
            return
        st.session_state[setting.FILE] = (given[0], read_prompt_cases(*given))
    except InputError as error:
        st.session_state["ablate_problem"] = str(error)


def parts(place: Place, engine: Engine | None) -> None:
    """Which parts go, found by a search or named, and how."""
    lm = getattr(engine, "lm", None)
    layers, heads = (lm.n_layers, lm.n_heads) if lm else (0, 0)
    chosen = value("parts")
    st.multiselect(
        "Parts",
        list(dict.fromkeys([*chosen, *setting.others(place, layers, heads)])),
        key=key("parts"),
        on_change=keep,
        accept_new_options=True,
        label_visibility="collapsed",
        placeholder="Parts: choose, or type DICTIONARY/INDEX, head:2.1, mlp:0…",
    )
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        with st.popover("Find a feature", type="tertiary"):
            search(place)
        st.segmented_control(
            "In its place",
            setting.ways(),
            key=key("how"),
            required=True,
            on_change=keep,
            label_visibility="collapsed",
            help="  \n".join(HOW.values()),
        )
        if chosen:
            st.button("Clear", type="tertiary", on_click=put, kwargs={"parts": []})
    st.caption(HOW[value("how")] + "." + scope())
    named(place)


def scope() -> str:
    """What is left alone."""
    return " Away at every token but BOS and special ones; error terms stay unless chosen."


def named(place: Place) -> None:
    """The chosen features, by their label or what they promote."""
    told = []
    for text in value("parts"):
        try:
            feature = setting.ModelPart.parse(text).feature
        except InputError:
            continue
        if feature and (said := meaning(place, feature)):
            told.append(f"{text}: {said}")
    if told:
        st.caption(session.literal(" · ".join(told)))


def meaning(place: Place, feature: FeatureId) -> str:
    """A label, else the tokens that a feature promotes; nothing where it is not there."""
    pair = (feature.dictionary, feature.index)
    label = annotations.read().annotations.feature_names.short_name_of(pair)
    if label:
        return label
    found = read_promoted_tokens(place.file, [pair], 3).get(pair, [])
    texts = " ".join(place.file.vocabulary.text(token).strip() for token in found)
    return f"promotes {texts}" if found else ""


def search(place: Place) -> None:
    """Features by number, label or token."""
    query = st.text_input(
        "Find a feature",
        key=key("find"),
        width=360,
        placeholder="label or token",
        label_visibility="collapsed",
    )
    if not query.strip():
        st.caption("Of all dictionaries of this harvest.")
        return
    said = annotations.read().annotations
    found, _ = finding.find(
        query.strip()[: finding.LONGEST],
        "all",
        place.file,
        list(place.file.dictionaries),
        said.label_index,
        said.explanation_index,
    )
    if not found:
        st.caption("Nothing was found. Try a shorter word.")
    for one in found[:FOUND]:
        name = f"{one.dictionary}/{one.feature}"
        why = session.literal(" · ".join(filter(None, [one.label, *one.why]))[:90])
        st.button(
            f"**{session.literal(name)}** {why}",
            key=f"ablate_add_{name}",
            type="tertiary",
            on_click=add,
            args=([name],),
        )


def add(names: list[str]) -> None:
    """Callback: these parts too."""
    put(parts=list(dict.fromkeys([*value("parts"), *names])))
