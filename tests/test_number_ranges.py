"""Numbers as ranges: read back the same, and short in a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.number_ranges import describe_layers, find_ranges, join_ranges


@given(st.sets(st.integers(0, 200)))
def test_ranges_hold_the_same_numbers(numbers: set[int]) -> None:
    found = find_ranges(numbers)
    assert {n for low, high in found for n in range(low, high + 1)} == numbers
    assert all(a[1] + 1 < b[0] for a, b in zip(found, found[1:], strict=False))


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([3], "layer 3"),
        ([4, 3], "layers 3 and 4"),
        ([*range(10), *range(11, 30)], "layers 0–9 and 11–29"),
        ([0, 2, 4, 5, 6], "layers 0, 2 and 4–6"),
        (range(30), "layers 0–29"),
        ([], "no layer"),
    ],
)
def test_layers_in_a_sentence(layers: list[int], said: str) -> None:
    assert describe_layers(layers) == said


def test_a_list_of_features_is_joined() -> None:
    assert join_ranges([8, 3, 9, 10, 3]) == "3,8-10" and join_ranges([]) == ""


def test_a_terminal_shows_the_spaces_of_numbers_and_obeys_no_control_character() -> None:
    from app.commands.steer import plain

    assert plain("5\u202f000 a\u00a0b") == "5\u202f000 a\u00a0b"
    assert plain("a\x1b[2J\r\u2028b") == "a�[2J��b"
