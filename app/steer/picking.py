"""Finding features for the page without leaving it: by number, label or token."""

from collections.abc import Callable

import streamlit as st

from app import annotations, finding, session, strip
from app.session import Place
from app.tokens import visible
from app.wording import share
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId

SHOWN = 10
"""Found features; more are a matter for the Search page."""
EVERY = "all dictionaries"


def picker(
    title: str,
    key: str,
    place: Place,
    said: annotations.Said,
    take: Callable[[FeatureId], None],
) -> None:
    """A popover with a search; `take` is the callback of a click on what it found."""
    with st.popover(title):
        names = [EVERY, *place.file.dictionaries]
        left, right = st.columns([3, 2], gap="small")
        text = left.text_input(
            "Search",
            key=f"{key}_text",
            placeholder="number, label or token, then Enter",
            max_chars=finding.LONGEST,
        )
        chosen = right.selectbox(
            "In", names, index=names.index(place.info.dictionary), key=f"{key}_in"
        )
        if text.strip():
            here = list(place.file.dictionaries) if chosen == EVERY else [chosen]
            results(text.strip(), here, key, place.file, said, take)


def results(
    text: str,
    names: list[str],
    key: str,
    file: HarvestFile,
    said: annotations.Said,
    take: Callable[[FeatureId], None],
) -> None:
    """A button for each."""
    found = numbered(text, names, file)
    if not found:
        labels, explained = said.annotations.label_index, said.annotations.explanation_index
        hits, _ = finding.find(text, "all", file, names, labels, explained)
        found = [(FeatureId(one.dictionary, one.feature), " · ".join(one.why)) for one in hits]
    if not found:
        st.caption("Nothing found. A number, part of a label, or one token of the model.")
    buttons = st.container(gap=None)
    for feature, why in found[:SHOWN]:
        about = described(file, feature, said)
        buttons.button(
            session.literal(" · ".join(filter(None, [str(feature), about]))),
            key=f"{key}_{feature}",
            type="tertiary",
            on_click=take,
            args=(feature,),
            help=session.literal(why) or None,
        )
    if len(found) > SHOWN:
        st.caption(f"{len(found) - SHOWN} more: search more narrowly.")


def numbered(text: str, names: list[str], file: HarvestFile) -> list[tuple[FeatureId, str]]:
    """The features that a number, or DICTIONARY/INDEX, names."""
    wanted = [FeatureId(name, int(text)) for name in names if text.isdecimal() and len(text) < 10]
    if "/" in text:
        try:
            wanted = [FeatureId.parse(text)]
        except InputError:
            return []
    found = []
    for feature in wanted:
        try:
            found.append((file.check_feature(feature), ""))
        except InputError:
            continue
    return found


def described(file: HarvestFile, feature: FeatureId, said: annotations.Said) -> str:
    """A feature's label; without one what it promotes; and how dense it is."""
    row = strip.facts(file, file.record.id, feature.dictionary).slice(feature.index, 1)
    facts = row.to_pylist()[0]
    name = said.annotations.feature_names.short_name_of((feature.dictionary, feature.index))
    if not name and facts["promoted"]:
        pieces = (visible(file.vocabulary.text(t)).strip() for t in facts["promoted"][:4])
        name = "promotes " + " ".join(filter(None, pieces))
    fired = f"density {share(facts['density'])}" if facts["density"] else "never fired"
    return " · ".join(filter(None, [name, fired]))
