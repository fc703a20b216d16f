"""Explanations of two dictionaries matched by meaning, beside the cosine of their decoders."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from app import components, likeness, session, wanted
from app.annotations import Said
from app.likeness import Likeness
from app.scores import tables, words
from app.session import Place
from app.wording import ABSENT, count, plural, signed
from backend.engine_protocol import Engine
from feature_store.errors import InputError
from feature_store.records import FeatureId
from feature_store.statistics import ClassAnswers, Estimate, answer_rate, spearman_correlation

CUT = 44
"""Characters of a text in the table."""
SHOWN, CHECKED = 12, 120
"""Pairs listed, the most alike; and pairs, drawn at random, that are held against decoders."""
ASKED = "alike_asked"
"""Of the session: the two dictionaries that were matched last, and whose words."""
HEADS: tuple[tables.Column, ...] = (
    ("feature", "", ""),
    ("its words", "", ""),
    ("most alike", "", "of the other dictionary, by words"),
    ("its words", "", ""),
    ("words", "number", "cosine of the embedded texts"),
    ("decoders", "number", "cosine, where both write into the same space"),
    ("nearest decoder", "number", "the other dictionary’s feature that writes most like this one"),
)


@dataclass(frozen=True)
class Decoded:
    """What the decoders say of a pair."""

    cosine: float | None
    """None where the two write into different spaces."""
    best: int
    """The other dictionary's feature with the largest cosine."""
    best_cosine: float


def draw(here: Place, said: Said) -> None:
    """Which other dictionary, whose words, and the button; then the pairs."""
    name = here.info.dictionary
    others = {
        other: known
        for other in here.file.dictionaries
        if other != name and (known := likeness.sources(said.annotations, [name, other]))
    }
    st.subheader("Said to be the same elsewhere", anchor=False)
    if not others:
        st.caption("Needs explanations by one explainer in two dictionaries of this harvest.")
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        other = st.selectbox("Other dictionary", list(others), key="alike_other", width=200)
        source = st.selectbox("Words by", others[other], key=f"alike_by_{other}", width=200)
        asked = (name, other, source)
        st.button(
            "Match by words",
            key="alike_match",
            on_click=ask,
            args=(asked,),
            help="Embeds these texts: some seconds, once.",
        )
    if st.session_state.get(ASKED) != asked:
        return
    try:
        found = likeness.match(here.file, said.annotations, *asked)
    except InputError as error:
        st.markdown(f":yellow[{session.literal(str(error))}]")
        return
    engine = wanted.engine(here.file, "alike", "Compare with decoders", [name, other])
    listed(here, other, found, engine)
    if engine is not None:
        summary(here, other, found, engine)


def ask(asked: tuple[str, str, str]) -> None:
    """Callback: match these."""
    st.session_state[ASKED] = asked


def listed(here: Place, other: str, found: Likeness, engine: Engine | None) -> None:
    """The pairs whose words are most alike."""
    order = np.argsort(-found.cosine, kind="stable")[:SHOWN].tolist()
    pairs = [(int(found.mine[i]), int(found.theirs[i])) for i in order]
    known = (
        decoded(engine, here.file.record.id, here.info.dictionary, other, pairs)
        if engine
        else [None] * len(pairs)
    )
    rows = []
    for i, (mine, theirs), one in zip(order, pairs, known, strict=True):
        name = f"{here.info.dictionary}/{mine}"
        link = session.href(session.COMPARE, {"harvest": here.file.record.id})
        link += f"&feature={name}&feature={other}/{theirs}"
        cells = [
            str(mine),
            tables.short(found.texts[i][0], CUT),
            f"{other}/{theirs}",
            tables.short(found.texts[i][1], CUT),
            signed(float(found.cosine[i])),
            *of_decoders(one),
        ]
        rows.append(tables.row(cells, link, f"{name} {other}/{theirs}"))
    got = components.rows(
        key="alike_rows", data=tables.table(HEADS, rows), on_go_change=components.ignore
    )
    if target := got.get("go"):
        query = {"harvest": here.file.record.id, "feature": target.split(" ")}
        st.switch_page(session.COMPARE, query_params=query)
    n = plural(len(found.mine), "feature")
    st.caption(f"the {len(rows)} most alike of {n} with words · {session.literal(found.said)}")


def of_decoders(one: Decoded | None) -> list[str]:
    """A pair's two cells."""
    if one is None:
        return [ABSENT, ABSENT]
    cosine = "different spaces" if one.cosine is None else signed(one.cosine)
    return [cosine, f"{one.best} {signed(one.best_cosine)}" if one.best >= 0 else ABSENT]


@st.cache_data(show_spinner=False, max_entries=16)
def decoded(
    _engine: Engine, harvest: str, name: str, other: str, pairs: Sequence[tuple[int, int]]
) -> list[Decoded]:
    """Each pair by its decoders; the model is held for one pair at a time."""
    found = []
    for mine, theirs in pairs:
        a, b = FeatureId(name, mine), FeatureId(other, theirs)
        best = _engine.find_nearest(a, other, 1)
        if not best:
            found.append(Decoded(None, -1, 0.0))
            continue
        found.append(Decoded(_engine.pairwise_cosines([a, b], "decoder")[0][1], *best[0]))
    return found


def summary(here: Place, other: str, found: Likeness, engine: Engine) -> None:
    """How far words and decoders agree, over pairs drawn at random; with what chance gives."""
    dice = np.random.default_rng(0)
    some = dice.permutation(len(found.mine))[:CHECKED].tolist()
    harvest, name = here.file.record.id, here.info.dictionary
    pairs = [(int(found.mine[i]), int(found.theirs[i])) for i in some]
    mixed = [(a, b) for (a, _), (_, b) in zip(pairs, pairs[1:] + pairs[:1], strict=True)]
    known = decoded(engine, harvest, name, other, pairs)
    if not pairs or known[0].cosine is None:
        st.caption("The two write into different spaces: decoders cannot be compared.")
        return
    st.caption(told(found.cosine[some], pairs, known, decoded(engine, harvest, name, other, mixed)))


def told(
    alike: np.ndarray,
    pairs: Sequence[tuple[int, int]],
    known: Sequence[Decoded],
    mixed: Sequence[Decoded],
) -> str:
    """The agreement as a sentence."""
    features = [mine for mine, _ in pairs]
    same = answer_rate(
        ClassAnswers.of([d.best == b for d, (_, b) in zip(known, pairs, strict=True)], features)
    )
    cosines = np.array([d.cosine for d in known], float)
    apart = np.array([d.cosine for d in mixed], float)
    order = spearman_correlation(alike, cosines, features) if spread(alike, cosines) else None
    parts = [
        f"of {count(len(pairs))} drawn at random, the most alike by words is, of all, the nearest "
        f"decoder for {shares(same)}",
        f"mean decoder cosine {words.decimal(float(cosines.mean()))}, "
        f"{words.decimal(float(apart.mean()))} for the same words mixed up",
        f"Spearman’s ρ of the two cosines {words.ranged(order)}" if order else "",
    ]
    return " · ".join(filter(None, parts))


def spread(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether neither is the same everywhere."""
    return len(one) > 1 and np.ptp(one) > 0 and np.ptp(other) > 0


def shares(one: Estimate) -> str:
    """A share, or that there are too few."""
    return words.ranged(one) if one.value is not None else f"– ({one.note})"
