"""The table's part of the URL, the way through its order, and its cells."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import columns, filters
from app.filters import Choice
from app.order import step
from feature_store import feature_table
from feature_store.errors import InputError
from feature_store.feature_table import ANNOTATION_KINDS, NUMBER_COLUMNS, SORT_COLUMNS, FeatureQuery

ends = st.none() | st.floats(allow_nan=False, allow_infinity=False)


def in_order(one: tuple[str, float | None, float | None]) -> bool:
    _, low, high = one
    return high is not None if low is None else high is None or low <= high


bounds = st.tuples(st.sampled_from(sorted(NUMBER_COLUMNS)), ends, ends).filter(in_order)
choices = st.builds(
    Choice,
    st.sampled_from(sorted(filters.SHOW)),
    st.builds(
        FeatureQuery,
        st.lists(bounds, max_size=3).map(tuple),
        st.text(max_size=8).map(str.strip),
        st.lists(st.sampled_from(ANNOTATION_KINDS), unique=True).map(
            lambda kinds: tuple(sorted(kinds))
        ),
        st.sets(st.integers(0, 10**8), max_size=20).map(lambda found: tuple(sorted(found))),
        st.sampled_from(sorted(SORT_COLUMNS)),
        st.booleans(),
    ),
)


@given(choices)
def test_what_is_written_reads_back_the_same(choice: Choice) -> None:
    assert filters.read(filters.write(choice)) == choice
    assert all(filters.write(choice).values())


def test_the_usual_leaves_the_url_empty() -> None:
    assert filters.write(filters.read({})) == {}
    assert filters.read({}).whole.between == (("n_active", 1, None),)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"filter": "density"}, "Write for instance density:0.001..0.01"),
        ({"filter": "density:0..nan"}, "'nan' is none"),
        ({"filter": "density:2..1"}, "Put the smaller one first"),
        ({"filter": "densty:0..1"}, "Did you mean 'density'"),
        ({"starred": "yes"}, "starred=yes is not starred=1"),
        ({"only": "a-b"}, "such as 3,8-10"),
        ({"only": "0-999999999"}, "more than 5000 features"),
        ({"sort": "-promoted"}, "No column to sort by called 'promoted'"),
    ],
)
def test_a_bad_filter_is_one_sentence(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        filters.read(given)


def test_words_say_the_choice() -> None:
    choice = filters.read({"filter": "density:0.01..", "sort": "-max_act", "starred": "1"})
    assert (
        filters.words(choice) == "alive, density ≥\u202f1.0\u202f%, starred, by max, largest first"
    )
    assert (
        filters.words(filters.read({"filter": "skew:1..2"}))
        == "alive, skew 1.00 to 2.00, by number"
    )


def test_a_step_follows_the_order_and_leads_back_into_it() -> None:
    order = np.array([8, 3, 5], dtype=np.int32)
    assert (step(order, 3).number, step(order, 3).before, step(order, 3).after) == (2, 8, 5)
    assert (step(order, 8).before, step(order, 5).after) == (None, None)
    outside = step(order, 4)
    assert (outside.number, outside.total, outside.before, outside.after) == (None, 3, 3, 5)
    empty = step(np.array([], dtype=np.int32), 4)
    assert (empty.before, empty.after) == (None, None)


def test_columns_are_those_of_the_store() -> None:
    assert set(columns.COLUMNS) == set(feature_table.COLUMNS)
    assert set(columns.COLUMNS) - set(columns.UNSORTED) == set(SORT_COLUMNS)
    assert columns.chosen("max_act,density") == ["feature", "density", "max_act"]
    assert columns.chosen("") == columns.usual()
    with pytest.raises(InputError, match="Did you mean 'density'"):
        columns.chosen("densty")
