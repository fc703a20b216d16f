"""No number is written longer than a person can read, whatever its size."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wording import measure, share, signed
from feature_store.number_format import format_fixed

ANY = st.floats() | st.floats(allow_nan=False).map(lambda x: 10.0 ** (x % 300))


@given(ANY, st.integers(0, 4))
def test_every_number_is_short_and_reads_back(value: float, decimals: int) -> None:
    for text in (measure(value), signed(value), share(value)):
        assert len(text) <= 20, text
    for with_sign in (False, True):
        text = format_fixed(value, decimals, signed=with_sign)
        assert len(text) <= decimals + 9, text
        back = float(text)
        if abs(value) < 1e300:
            assert back == pytest.approx(value, rel=0.06, abs=0.5000001 * 10.0**-decimals)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-3.21e74, "−3.21 × 10⁷⁴"),
        (4.2e-12, "4.20 × 10⁻¹²"),
        (123456789.0, "123 456 789"),
        (1e-6, "0.00000100"),
        (math.inf, "inf"),
        (math.nan, "–"),
    ],
)
def test_large_and_small_numbers_are_in_scientific_form(value: float, text: str) -> None:
    assert measure(value).replace("\u202f", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.125, "+0.12"),
        (-0.001, "0.00"),
        (0.0, "0.00"),
        (-1e75, "-1.0e+75"),
        (999_999.0, "+999999.00"),
    ],
)
def test_fixed_decimals_with_a_sign(value: float, text: str) -> None:
    assert format_fixed(value, signed=True) == text
